# SPDX-License-Identifier: Apache-2.0
"""The group of all commands, and the translation of errors into a line and an exit code. Does I/O on the terminal.

A command is imported when it is called for: the agent's host has none of the libraries that the others need.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Final

import click

from cyborg_reconciler.cli.plain import FAILED, INTERRUPTED, printable
from cyborg_reconciler.errors import ReconcilerError

#: How --output json may be written; its short form also with -y before it, and with or without a space.
JSON: Final = re.compile(r"--output[= ]json|-y*o ?json")

#: Where each command lies.
PLACES: Final = {
    "accelerator": "accelerators",
    "agent": "agent",
    "agents": "agents",
    "apply": "apply",
    "approve": "apply",
    "attach-instance": "accelerators",
    "backend-list": "drivers",
    "completion": "completion",
    "conductor": "conductor",
    "demo": "demo",
    "detach-instance": "accelerators",
    "discover-services": "drivers",
    "driver-list": "drivers",
    "export": "observe",
    "history": "history",
    "install-driver": "drivers",
    "observe": "observe",
    "plan": "plan",
    "retry": "apply",
    "run": "run",
    "schema": "validate",
    "serve": "serve",
    "service-list": "drivers",
    "status": "status",
    "token": "token",
    "uninstall-driver": "drivers",
    "update-driver": "drivers",
    "validate": "validate",
    "worker": "run",
}
#: The commands of the small install, which has none of the controller's libraries; this is one of those.
SMALL: Final = {"agent"}
CONTROLLERS_OWN: Final = "pydantic"


class Commands(MutableMapping[str, click.Command]):
    """The commands by name, each imported when it is looked up; without the controller's libraries only the agent's."""

    def __init__(self) -> None:
        whole = find_spec(CONTROLLERS_OWN) is not None
        self._places: dict[str, str | click.Command] = {
            name: place for name, place in PLACES.items() if whole or name in SMALL
        }

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._places and name in PLACES:
            found = f"`{name}` needs the controller's libraries, and this is the agent's small install"
            raise click.UsageError(found)
        place = self._places[name]
        if not isinstance(place, str):
            return place
        try:
            command: click.Command = getattr(import_module(f"{__package__}.{place}"), name.replace("-", "_"))
        except ModuleNotFoundError as exc:
            if name not in SMALL:
                raise
            found = f"`{name}` needs {exc.name}, which is not installed: pip install 'cyborg-reconciler[agent]'"
            raise click.UsageError(found) from exc
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@click.group(commands=Commands(), context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("cyborg-reconciler"), prog_name="cyborg-reconciler")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Keep the accelerators of Linux hosts in the state that you declare.

    \b
    Examples:
      cyborg-reconciler demo
      cyborg-reconciler plan -i inventory/ -p policies/
      cyborg-reconciler apply -i inventory/ -p policies/ --limit 'compute-1*'

    Exit codes of plan: 0 nothing to do, 2 changes, 1 anything else. Of apply: 0 verified, 2 some hosts wait, 1 failed.
    """
    del debug  # `main` looks for it, since an error can come before it is parsed


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = cli.main(args=arguments, prog_name="cyborg-reconciler", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except ReconcilerError as exc:
        _say(exc.line(), exc.fields(), arguments)
    except click.exceptions.Abort:
        found = "interrupted; nothing more is started, and the next call goes on from here"
        _say(found, {"error": "Interrupted", "found": found}, arguments)
        sys.exit(INTERRUPTED)
    except click.ClickException as exc:
        message = exc.format_message().rstrip(".")
        if isinstance(exc, click.MissingParameter):  # whose choices stand on lines of their own
            message = " ".join(message.split())
        hint = ""
        if isinstance(exc, click.UsageError) and exc.ctx is not None:
            hint = f"; see `{exc.ctx.command_path} --help`"
        _say(f"{message}{hint}", {"error": "Usage", "found": message}, arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone
    except Exception as exc:  # noqa: BLE001 - the last translator: whatever comes becomes one line
        found = f"unexpected error: {type(exc).__name__}: {exc}; run again with --debug, and report it"
        _say(found, {"error": "Unexpected", "found": found}, arguments)
    sys.exit(FAILED)


def _say(line: str, fields: dict[str, Any], arguments: list[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    if _wants_json(arguments):
        click.echo(json.dumps(fields))
    color = False if os.environ.get("NO_COLOR") else None  # None: on a terminal only
    for part in line.splitlines():
        click.echo(f"{click.style('error:', fg='red')} {printable(part)}", err=True, color=color)


def _wants_json(arguments: list[str]) -> bool:
    """Return whether JSON was asked for; click may not have come so far as to know."""
    return any(JSON.fullmatch(words) for words in (*arguments, *map(" ".join, pairwise(arguments))))
