# SPDX-License-Identifier: Apache-2.0
"""`apply`: carry out what is planned, and look again; `approve` and `retry` for hosts that wait for a person."""

import sys
from pathlib import Path

import click
from rich.text import Text

from cyborg_reconciler.bootstrap import SystemClock, open_memory, open_ports
from cyborg_reconciler.cli.common import (
    CHANGES,
    DONE,
    FAILED,
    console,
    errors_console,
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
from cyborg_reconciler.core.state import Phase, Reason
from cyborg_reconciler.documents.plan import PlanDocument, decode_plan
from cyborg_reconciler.errors import PlanUnreadableError
from cyborg_reconciler.reconcile import converge, resume
from cyborg_reconciler.saved_plans import only
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import Survey, survey
from cyborg_reconciler.survey_data import plan_data


@click.command(short_help="Make the hosts as declared, and verify it.")
@with_hosts
@with_policies
@with_output
@with_state
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-reboot", is_flag=True, help="Reboot hosts where it is needed, whatever the pools say.")
@click.argument("saved", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(  # noqa: PLR0913 - the options of a command
    *,
    inventory: tuple[str, ...],
    limit: str,
    policies: str | None,
    output: str,
    settings: Settings,
    yes: bool,
    allow_reboot: bool,
    saved: Path | None,
) -> int:
    """Make the hosts as declared, wave by wave, and verify it by looking again.

    With SAVED, a plan of `plan --out`, just that plan is carried out; it is refused when what it was made from has
    changed. What is to be done besides, once that is done, waits for approval, in pools with automatic approval too.

    \b
    Exits with 0 when every host is verified, with 2 when some wait, and with 1 when something failed or was refused.

    \b
    Examples:
      cyborg-reconciler apply -i inventory/ -p policies/
      cyborg-reconciler apply -i inventory/ -p policies/ --limit compute-7 --allow-reboot --yes
    """
    target = target_of(settings, inventory, limit, policies)
    options = options_of(settings, limit, consent=True, saved=saved is not None, allow_reboot=allow_reboot)
    plan = read_plan(saved) if saved else None
    quiet = is_quiet(output)
    with open_ports(settings, target, exclusive=True) as ports:
        for host in resume(ports):
            errors_console().print(f"{host}: an earlier run was interrupted; it is looked at again", style="yellow")
        with timed("Observed", quiet=quiet) as on_progress:
            seen = survey(ports, options, on_progress)
        if plan is not None:
            seen = only(seen, plan)
        if output == "text":
            console().print(plan_text(seen))
        if any(view.plan.actions for view in seen.hosts.values()):
            if output == "json" and not yes:
                errors_console().print(plan_text(seen))  # what a person agrees to, he has seen
            ask("Apply this?", yes=yes)
            with timed("Applied and observed again", quiet=quiet) as on_progress:
                seen = converge(ports, seen, options, on_progress)
            if output == "text":
                tell(seen)
    if output == "json":
        put_json(plan_data(seen))
    return exit_code(seen)


def ask(question: str, *, yes: bool) -> None:
    """Return when a person agrees.

    Raises:
        click.UsageError: there is nobody to ask.
        click.ClickException: the person does not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        msg = "nobody can be asked here (no terminal); add --yes"
        raise click.UsageError(msg, click.get_current_context())
    if not click.confirm(question, err=True):
        raise click.ClickException("nothing was done: it was not agreed to")


def read_plan(path: Path) -> PlanDocument:
    """Return the plan saved at *path*.

    Raises:
        PlanUnreadableError: it is none.
    """
    try:
        return decode_plan(path.read_bytes())
    except OSError as exc:
        raise PlanUnreadableError(wanted=f"a readable plan {path}", found=exc.strerror or str(exc)) from exc


def tell(seen: Survey) -> None:
    """Print how each host came out."""
    out = console()
    for view in seen.hosts.values():
        if view.outcome is None:
            continue
        if view.verdict.verified:
            generation = f"   generation {view.plan.generation}"
            out.print(Text.assemble(f"{view.host.name}   ", ("verified", "green"), generation))
            continue
        out.print(Text.assemble(f"{view.host.name}   ", (view.outcome.status, "red"), f", {view.verdict.sync}"))
        for step in view.outcome.steps:
            if step.status in {"refused", "failed"}:
                reason = f"{step.reason}: " if step.reason else ""
                out.print(f"      {step.id}: {reason}{step.message}")
        if view.outcome.message:
            out.print(f"      {view.outcome.message}")
    out.print(plan_text(seen))


def exit_code(seen: Survey) -> int:
    """Return what an apply exits with."""
    views = seen.hosts.values()
    bad = {"refused", "failed", "unreachable", "cancelled", "missing"}
    tried = [view for view in views if view.outcome is not None and not view.verdict.verified]
    if any(view.outcome is not None and view.outcome.status in bad for view in tried):
        return FAILED
    if any(view.phase is Phase.PLANNED for view in tried):
        return FAILED  # it was done, and it is not so
    if any(wait.reason is Reason.CONFLICTED for view in views for wait in view.plan.waits):
        return FAILED
    return DONE if all(view.verdict.verified for view in views) else CHANGES


@click.command(short_help="Approve what is planned, for a loop that waits.")
@with_hosts
@with_policies
@with_state
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-reboot", is_flag=True, help="Approve reboots too.")
def approve(  # noqa: PLR0913 - the options of a command
    *, inventory: tuple[str, ...], limit: str, policies: str | None, settings: Settings, yes: bool, allow_reboot: bool
) -> int:
    """Approve what is planned now, for a loop (`run`) that waits for it.

    The approval is for just these actions under this generation: when either changes, the host waits again.

    \b
    Example:
      cyborg-reconciler approve -i inventory/ -p policies/ --limit compute-7
    """
    target = target_of(settings, inventory, limit, policies)
    with open_ports(settings, target, exclusive=False) as ports:
        with timed("Observed") as on_progress:
            seen = survey(ports, options_of(settings, limit, allow_reboot=allow_reboot), on_progress)
        console().print(plan_text(seen))
        views = [view for view in seen.hosts.values() if view.plan.actions]
        if views:
            ask("Approve this?", yes=yes)
        for view in views:
            ports.journal.approve(view.host.name, view.plan.generation, view.plan.digest, ports.clock.now())
            console().print(f"{view.host.name}   approved, generation {view.plan.generation}")
    return DONE


@click.command(short_help="Try hosts again that gave up.")
@with_state
@click.argument("hosts", nargs=-1, required=True)
def retry(*, settings: Settings, hosts: tuple[str, ...]) -> int:
    """Forget the failures and reboots of HOSTS, so that they are tried again.

    \b
    Example:
      cyborg-reconciler retry compute-7
    """
    with open_memory(settings) as journal:
        known = {record.name for record in journal.hosts()}
    if missing := [host for host in hosts if host not in known]:
        msg = f"no host is called {', '.join(missing)} in {settings.journal}"
        raise click.UsageError(msg, click.get_current_context())
    with open_memory(settings, writes=True) as journal:
        for host in hosts:
            journal.retry(host, SystemClock().now())
            console().print(f"{host}   will be tried again")
    return DONE
