"""Loading one script after the other into a running Locust master, and taking away what the last one left.

Only a master does this: it runs no users. What a script can leave behind beyond what is listed here (threads and
greenlets that it started, monkey patches, state of other packages) stays until the master is started again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import linecache
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import locust.log
from locust import argument_parser, events
from locust.env import Environment
from locust.main import merge_locustfiles_content

SCRIPT_NAME = "locustfile.py"
MAX_FAILURE = 6000
_HEAD = re.compile(r"^(\[[^\]]*\] \S+: |.*?: error: )")
_ROUTES = "can no longer be called on the application"


class ScriptFailed(Exception):
    """A script could not be loaded; the text is what Python or Locust said."""


class Swap:
    """The place of the script in a master. Make it when the runner and its web interface are there, before any script.

    Parameters
    ----------
    environment : Environment
        Locust's.
    arguments : sequence of str
        The command line that this Locust was started with.
    """

    def __init__(self, environment: Environment, arguments: Sequence[str]) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._arguments = list(arguments)
        self._idle_classes = list(environment.user_classes)
        self._handlers = {name: list(hook._handlers) for name, hook in _hooks(environment)}
        self._messages = dict(self._runner.custom_messages)
        self._options = dict(vars(environment.parsed_options))
        self._path, self._finders, self._variables = list(sys.path), list(sys.meta_path), dict(os.environ)
        self._home = Path.cwd()
        self._folder: Path | None = None

    def load(self, folder: Path, options: Mapping[str, Any], arguments: Sequence[str] = ()) -> None:
        """Take the last script away, and load `folder / SCRIPT_NAME` as Locust itself would.

        Parameters
        ----------
        folder : Path
            Becomes the working directory; it is deleted when the next script is loaded.
        options : mapping
            What the command line of this run would have said, such as `num_users`.
        arguments : sequence of str
            The script's own command line arguments.

        Raises
        ------
        ScriptFailed
            Nothing of the script is left then.
        """
        self.unload()
        self._folder = folder
        path = folder / SCRIPT_NAME
        os.chdir(folder)
        with self._undone_if_it_fails():
            users, shapes, tasks, shape = merge_locustfiles_content([str(path)])
            if not users:
                raise ScriptFailed("No User class found!")
            environment = self._environment
            environment.user_classes = list(users.values())
            environment._remove_user_classes_with_weight_zero()
            environment._validate_user_class_name_uniqueness()
            environment.shape_class = shape
            environment._validate_shape_class_instance()
            if shape:
                shape.runner = self._runner
            environment.locustfile, environment.parsed_locustfiles = SCRIPT_NAME, [str(path)]
            self._begin_anew()
            environment.available_user_classes = users
            environment.available_user_tasks = tasks
            environment.available_shape_classes = shapes
            self._set_options(options, arguments)

    def initialise(self) -> None:
        """Call the script's own `init` listeners: Locust fires that event once in a process.

        Raises
        ------
        ScriptFailed
            If one of them fails. Nothing of the script is left then.
        """
        environment = self._environment
        with self._undone_if_it_fails():
            for handler in events.init._handlers[len(self._handlers["init"]) :]:
                handler(environment=environment, runner=self._runner, web_ui=environment.web_ui)

    def unload(self) -> None:
        """Put everything back that a script changes by being loaded and run, as far as that is known."""
        environment, runner = self._environment, self._runner
        for name, hook in _hooks(environment):  # also what the script has added later, in a handler of its own
            hook._handlers[:] = self._handlers.get(name, [])
        runner.custom_messages.clear()
        runner.custom_messages.update(self._messages)
        options = vars(environment.parsed_options)  # the same object: others hold it
        options.clear()
        options.update(self._options)
        sys.path[:] = self._path
        sys.meta_path[:] = self._finders  # Locust looks for pytest functions in a script without User classes
        os.environ.clear()
        os.environ.update(self._variables)
        os.chdir(self._home)
        self._forget_modules()
        environment.user_classes = list(self._idle_classes)
        environment.shape_class = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Reset what Locust itself keeps from one test to the next."""
        environment, runner = self._environment, self._runner
        environment._tasks_filtered = False  # or tags would choose among the tasks of the first script only
        environment.host = None  # or the last target would override that of this run
        environment.tags = environment.exclude_tags = None
        environment.process_exit_code = None
        environment.available_user_classes = {user.__name__: user for user in environment.user_classes}
        environment.available_user_tasks = {user.__name__: user.tasks for user in environment.user_classes}
        environment.available_shape_classes = {}
        environment.worker_logs.clear()
        runner._users_dispatcher = None
        runner.shape_greenlet = runner.shape_last_tick = None
        runner.target_user_classes_count, runner.final_user_classes_count = {}, {}
        runner.target_user_count = 0
        runner.stats.clear_all()
        runner.exceptions = {}
        for client in runner.clients.values():
            client.user_classes_count = {}
        locust.log.unhandled_greenlet_exception = False

    def _set_options(self, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
        """Give the script's own arguments their values: its `init_command_line_parser` listeners are there now."""
        parser = argument_parser.get_parser(default_config_files=[])
        fresh = vars(parser.parse_args([*self._arguments, *arguments]))
        known = vars(self._environment.parsed_options)
        known.update({name: value for name, value in fresh.items() if name not in known})
        known.update(options)

    def _forget_modules(self) -> None:
        if self._folder is None:
            return
        inside = str(self._folder) + os.sep
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(inside):
                del sys.modules[name]
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        linecache.clearcache()
        importlib.invalidate_caches()

    @contextlib.contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        """Turn whatever a script raises, SystemExit too, into ScriptFailed: gevent would end the process for it."""
        with listening() as said:
            try:
                yield
            except ScriptFailed:
                self.unload()
                raise
            except BaseException as error:
                text = describe(error, said())
                self.unload()
                raise ScriptFailed(text) from None


@contextlib.contextmanager
def listening() -> Iterator[Any]:
    """Overhear what is written to stderr, which still gets it: argparse says there why it ends a process."""
    heard = io.StringIO()
    stderr = sys.stderr
    sys.stderr = _Both(stderr, heard)
    try:
        yield heard.getvalue
    finally:
        sys.stderr = stderr


class _Both(io.TextIOBase):
    def __init__(self, stream: Any, copy: io.StringIO) -> None:
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        if self._copy.tell() < MAX_FAILURE:
            self._copy.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


def describe(error: BaseException, said: str = "") -> str:
    """Say why a script could not be loaded, with the traceback where it has one to show."""
    if isinstance(error, SystemExit):
        lines = [_HEAD.sub("", line) for line in said.splitlines() if line.strip()]
        return f"the script ended the process (exit code {error.code}): {lines[-1] if lines else 'without a word'}"
    if isinstance(error, AssertionError) and _ROUTES in str(error):
        return (
            "the script adds routes to Locust's web interface in its init listener, which a running master cannot "
            "take: run it on a local cluster, where each run has processes of its own"
        )
    return "".join(traceback.format_exception(error))[-MAX_FAILURE:]


def _hooks(environment: Environment) -> list[tuple[str, Any]]:
    return [(name, hook) for name, hook in vars(environment.events).items() if hasattr(hook, "_handlers")]
