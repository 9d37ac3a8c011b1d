"""The command line as docs/commands.md tells it. `python -m tests.contracts.commands` writes the page anew.

It is made of what the parser knows, and not of the text that it prints: that has other line breaks and other columns
in another version of Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from loadbench import cli

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """\
# The command line

Everything that a notebook does, for a shell and for scheduled jobs. `loadbench COMMAND --help` says the same as this
page. A run may be named by the beginning of its id. With `--json` a command prints one JSON document, with the field
names of the [REST API](rest.md), and nothing else on standard output; errors are one line on standard error.

| exit code | meaning |
|---|---|
"""


def page() -> str:
    """Write the whole page, in Markdown."""
    found = list(commands(cli.build_parser()))
    lines = [HEAD + "\n".join(f"| {code} | {meaning} |" for code, meaning in exit_codes()), ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`{parser.prog}`](#{anchor(parser)}) | {cell(text)} |" for parser, text in found]
    for parser, text in found:
        lines += ["", f"## {parser.prog}", "", f"{text[:1].upper()}{text[1:]}.", "", "```text", usage(parser), "```"]
        rows = [f"| `{' '.join(shown(action))}` | {cell(meaning(action))} |" for action in arguments(parser)]
        lines += ["", "| argument | meaning |", "|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def commands(parser: argparse.ArgumentParser, text: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Give every command that can be run, with what its parent says of it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser, text
    for action in below:
        texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from commands(child, texts[name])


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Give the arguments of a command, all but --help."""
    return [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def exit_codes() -> list[tuple[str, str]]:
    """Read the exit codes from the command line's own description."""
    told = " ".join((cli.__doc__ or "").partition("Exit codes: ")[2].split()).rstrip(".")
    pairs = [one.partition(" ") for one in told.split(", ")]
    return [(code, text) for code, _, text in pairs]


def usage(parser: argparse.ArgumentParser) -> str:
    """Write one line with what must be given; the rest is "[options]"."""
    either = [group._group_actions for group in parser._mutually_exclusive_groups if group.required]
    grouped = {id(action) for group in either for action in group}
    words = [parser.prog]
    words += [f"({' | '.join(' '.join(shown(action)) for action in group)})" for group in either]
    given = [action for action in arguments(parser) if id(action) not in grouped]
    words += [" ".join(shown(action)) for action in given if action.option_strings and action.required]
    words += ["[options]"] if any(action.option_strings and not action.required for action in given) else []
    words += [" ".join(shown(action)) for action in given if not action.option_strings]
    return " ".join(words)


def shown(action: argparse.Action) -> list[str]:
    """Write an argument as it is typed: `--users USERS`, `RUN`."""
    if action.choices is not None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        value = str(action.metavar or action.dest.upper())
    value = f"[{value} ...]" if action.nargs == "*" else value
    names = [", ".join(action.option_strings)] if action.option_strings else []
    return names + ([] if action.nargs == 0 else [value])


def meaning(action: argparse.Action) -> str:
    """Give an argument's help text, with the default where the text asks for it."""
    text = (action.help or "") % vars(action)
    return f"{text}; required" if action.option_strings and action.required else text


def anchor(parser: argparse.ArgumentParser) -> str:
    return parser.prog.replace(" ", "-")


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
