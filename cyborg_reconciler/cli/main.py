# SPDX-License-Identifier: Apache-2.0
"""The group of all commands, and the translation of errors into a line and an exit code. Does I/O on the terminal."""

import json
import re
import sys
import traceback
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

import click
from rich.text import Text

from cyborg_reconciler.cli import (
    accelerators,
    agents,
    apply,
    completion,
    demo,
    history,
    observe,
    plan,
    run,
    serve,
    status,
    token,
    validate,
)
from cyborg_reconciler.cli.common import FAILED, INTERRUPTED, errors_console
from cyborg_reconciler.errors import ReconcilerError

#: How --output json may be written; its short form also with -y before it, and with or without a space.
JSON: Final = re.compile(r"--output[= ]json|-y*o ?json")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


for command in (
    observe.observe,
    plan.plan,
    apply.apply,
    apply.approve,
    apply.retry,
    status.status,
    history.history,
    validate.validate,
    validate.schema,
    observe.export,
    run.run,
    serve.serve,
    agents.agents,
    accelerators.accelerator,
    accelerators.attach_instance,
    accelerators.detach_instance,
    token.token,
    demo.demo,
    completion.completion,
):
    cli.add_command(command)


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
    console = errors_console()
    for part in line.splitlines():
        console.print(Text.assemble(("error:", "red"), " ", part))


def _wants_json(arguments: list[str]) -> bool:
    """Return whether JSON was asked for; click may not have come so far as to know."""
    return any(JSON.fullmatch(words) for words in (*arguments, *map(" ".join, pairwise(arguments))))
