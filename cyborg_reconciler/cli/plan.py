# SPDX-License-Identifier: Apache-2.0
"""`plan`: what would be done, and what waits."""

import os
import tempfile
from pathlib import Path

import click

from cyborg_reconciler.bootstrap import open_ports
from cyborg_reconciler.cli.common import (
    CHANGES,
    DONE,
    FAILED,
    console,
    is_quiet,
    options_of,
    put_json,
    target_of,
    timed,
    with_hosts,
    with_output,
    with_policies,
    with_state,
)
from cyborg_reconciler.cli.render import plan_text
from cyborg_reconciler.core.state import Reason
from cyborg_reconciler.documents.plan import encode
from cyborg_reconciler.saved_plans import plan_document
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import Survey, survey
from cyborg_reconciler.survey_data import plan_data


@click.command(short_help="What would be done, and what waits.")
@with_hosts
@with_policies
@with_output
@with_state
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the plan for `apply` or the playbook."
)
@click.option("--allow-reboot", is_flag=True, help="Plan reboots where they are needed, whatever the pools say.")
def plan(  # noqa: PLR0913 - the options of a command
    *,
    inventory: tuple[str, ...],
    limit: str,
    policies: str | None,
    output: str,
    settings: Settings,
    out: Path | None,
    allow_reboot: bool,
) -> int:
    """Show what would be done on each host, and what waits and why.

    \b
    Exits with 0 when there is nothing to do and every host was observed, with 2 when there is something to do,
    and with 1 otherwise.

    \b
    Examples:
      cyborg-reconciler plan -i inventory/ -p policies/
      cyborg-reconciler plan -i inventory/ -p policies/ --out plan.json && cyborg-reconciler apply … plan.json
    """
    target = target_of(settings, inventory, limit, policies)
    options = options_of(settings, limit, allow_reboot=allow_reboot)
    with open_ports(settings, target, exclusive=False) as ports:
        with timed("Observed", quiet=is_quiet(output)) as on_progress:
            seen = survey(ports, options, on_progress)
        if out is not None:
            views = [view for view in seen.hosts.values() if view.plan.actions]
            save(out, encode(plan_document(views, seen.declared, ports, options)))
    if output == "json":
        put_json(plan_data(seen))
    else:
        console().print(plan_text(seen))
    return exit_code(seen)


def save(path: Path, document: bytes) -> None:
    """Write a plan for its owner alone: it holds what hosts report of themselves.

    It is there as a whole or not at all: a plan that was at *path* before stays when the disk is full.

    Raises:
        click.FileError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(document + b"\n")  # /dev/stdout, say: there is nothing to replace
        else:
            _replace(path.resolve(), document + b"\n")  # a link goes on leading to the plan
    except OSError as exc:
        raise click.FileError(str(path), exc.strerror) from exc


def _replace(path: Path, content: bytes) -> None:
    """Put a new file, which only its owner may read, in the place of the one at *path*."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def exit_code(seen: Survey) -> int:
    """Return what a plan exits with."""
    views = seen.hosts.values()
    if any(wait.reason is Reason.CONFLICTED for view in views for wait in view.plan.waits):
        return FAILED
    if any(view.plan.actions or any(wait.action for wait in view.plan.waits) for view in views):
        return CHANGES
    return DONE if all(view.verdict.verified for view in views) else FAILED
