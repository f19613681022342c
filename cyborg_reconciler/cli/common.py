# SPDX-License-Identifier: Apache-2.0
"""What the commands share: options, exit codes, consoles, and the output of JSON."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cyborg_reconciler.cli.plain import CHANGES, DONE, FAILED, INTERRUPTED, printable
from cyborg_reconciler.settings import Settings, read_settings

if TYPE_CHECKING:
    from cyborg_reconciler.bootstrap import Target
    from cyborg_reconciler.ports import OnProgress
    from cyborg_reconciler.survey import Options

#: The exit codes, which the commands take from here; the rest is defined here.
__all__ = ["CHANGES", "DONE", "FAILED", "INTERRUPTED"]

#: Columns of an output that is no terminal: a pipe gets whole lines, whatever stands in them.
UNLIMITED: Final = 10_000

Command = Callable[..., Any]


class PlainConsole(Console):
    """A console that shows texts as they are: they come from hosts, files and users.

    Nothing in a text is markup or an emoji's name (a style is given with `Text` or ``style``), and its control
    characters are replaced, so that none is an order to the terminal.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is written for *renderable*; what rich itself orders (of the live table) passes."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


def console() -> Console:
    """Return the console of the output; colours only on a terminal, and not with NO_COLOR."""
    return PlainConsole(width=None if sys.stdout.isatty() else UNLIMITED)


def errors_console() -> Console:
    """Return the console of progress and errors."""
    return PlainConsole(stderr=True)


def with_state(command: Command) -> Command:
    """Add ``--state``; the command gets `settings`."""

    @click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        help="The folder of the journal and the runs.  [default: the XDG state folder]",
    )
    @click.option("--debug", is_flag=True, hidden=True)
    @functools.wraps(command)
    def wrapped(*args: Any, state: Path | None, debug: bool, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        del debug
        return command(*args, settings=settings_with(state_dir=state), **kwargs)

    return wrapped


def with_hosts(command: Command) -> Command:
    """Add ``-i`` and ``--limit``; the command gets `inventory` and `limit`."""
    limit = click.option("--limit", metavar="PATTERN", default="", help="Only hosts that match this Ansible pattern.")
    return with_inventory(limit(command))


def with_inventory(command: Command) -> Command:
    """Add ``-i``; the command gets `inventory`."""
    return click.option(
        "-i",
        "--inventory",
        multiple=True,
        metavar="PATH",
        help="Any Ansible inventory; may be repeated.  [default: ansible.cfg's]",
    )(command)


def with_policies(command: Command) -> Command:
    """Add ``-p``; the command gets `policies`."""
    return click.option(
        "-p",
        "--policies",
        metavar="PATH",
        help="A file or a tree of policies.",
        type=click.Path(),
    )(command)


def with_output(command: Command) -> Command:
    """Add ``--output``; the command gets `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
    )(command)


def settings_with(**given: Any) -> Settings:  # noqa: ANN401 - a setting's value
    """Return the settings, with what the command line gives."""
    settings = read_settings()
    changed = {name: value for name, value in given.items() if value is not None}
    return Settings(**{**{name: getattr(settings, name) for name in Settings.__slots__}, **changed})


def options_of(
    settings: Settings, limit: str, *, consent: bool = False, saved: bool = False, allow_reboot: bool = False
) -> "Options":
    """Return what the caller allows, how old facts may be, and whether there is a limit."""
    from cyborg_reconciler.survey import Options  # noqa: PLC0415 - slow to import; `serve` and what asks a server do without

    age = timedelta(seconds=settings.facts_max_age_s)
    return Options(consent, saved, allow_reboot, age, limited=bool(limit))


def target_of(settings: Settings, inventory: tuple[str, ...], limit: str, policies: str | None) -> "Target":
    """Return what the command is about.

    Raises:
        click.UsageError: no policies are given.
    """
    from cyborg_reconciler.bootstrap import Target  # noqa: PLC0415 - the same

    chosen = policies if policies is not None else settings.policies
    if policies is not None or settings.policies:
        return Target(inventory or settings.inventory, limit, chosen)
    msg = "no policies are given: add -p PATH, or `policies` to the configuration file"
    raise click.UsageError(msg, click.get_current_context())


def put_json(data: object) -> None:
    """Print *data* for programs."""
    # Of what is no text in UTF-8 that makes JSON's own escapes.
    click.echo(json.dumps(data, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


@contextmanager
def timed(words: str, *, quiet: bool = False) -> "Iterator[OnProgress]":
    """Show progress, and then say *words* with the seconds that it took."""
    from cyborg_reconciler.cli.progress import shown  # noqa: PLC0415 - the same

    out = errors_console()
    began = time.monotonic()
    with shown(out, quiet=quiet) as on_progress:
        yield on_progress
    if not quiet:
        out.print(f"{words} in {time.monotonic() - began:.1f} s", style="dim")


def is_quiet(output: str) -> bool:
    """Return whether progress would disturb: JSON goes to a program."""
    return output == "json" and not sys.stderr.isatty()
