"""The pages in docs/ say what the product does: every command, every route, every decision."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from server.app import ROUTES
from tests.contracts import commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROUTE_ROW = re.compile(r"^\| ([A-Z]+) \| `(/v1/[^`]*)` \| [^|]+ \| (viewer|runner|admin) \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def links(page: Path) -> set[Path]:
    """Give the files and folders that a page links to."""
    targets = {target for target in LINK.findall(page.read_text()) if "://" not in target}
    return {(page.parent / target).resolve() for target in targets}


def test_the_command_line_reference_is_up_to_date():
    assert commands.PAGE.read_text() == commands.page(), "write it anew: python -m tests.contracts.commands"


def test_every_command_and_argument_that_help_lists_is_in_the_reference():
    """Ask the real command line, so that the page does not only agree with what it was made of."""
    sections = dict(re.findall(r"^## (loadbench [a-z -]+)\n(.*?)(?=^## |\Z)", commands.PAGE.read_text(), re.M | re.S))
    assert set(sections) == set(told_by_help("loadbench"))
    for command, section in sections.items():
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(command))) - {"--help", "--csv"}
        assert options == set(re.findall(r"^\| `(?:-\w, )?(--[a-z-]+)", section, re.M)), command


def told_by_help(command: str) -> list[str]:
    """List the commands below one, as `--help` tells them; itself if there are none."""
    listed = re.search(r"^(?:commands|positional arguments):\n  ([A-Z]+)\n((?:    .*\n?)+)", help_of(command), re.M)
    if listed is None:
        return [command]
    names = re.findall(r"^    ([a-z-]+)", listed[2], re.M)
    return [found for name in names for found in told_by_help(f"{command} {name}")]


def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "loadbench.cli", *command.split()[1:], "--help"],
        cwd=ROOT, env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_every_route_stands_in_the_rest_page_with_its_role():
    told = ROUTE_ROW.findall((ROOT / "docs" / "rest.md").read_text())
    served = {
        (method, path, operation.role) for path, handler in ROUTES for method, operation in handler.operations.items()
    }
    assert set(told) == served
    assert len(told) == len(served)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_is_reachable_from_the_readme():
    """A link to a folder leads to the pages in it, as on any code host."""
    found, ahead = set(), {ROOT / "README.md"}
    while ahead:
        found |= ahead
        there = {target for page in ahead for target in links(page)}
        there |= {page for folder in there if folder.is_dir() for page in folder.glob("*.md")}
        ahead = {page for page in there if page.suffix == ".md"} - found
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in found] == []


def test_decisions_are_numbered_without_gaps_and_titled_with_their_number():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:03}-" for number in range(1, len(pages) + 1)]
    assert [page.read_text()[:7] for page in pages] == [f"# {page.name[:3]}: " for page in pages]
