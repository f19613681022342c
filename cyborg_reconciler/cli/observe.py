# SPDX-License-Identifier: Apache-2.0
"""`observe`: what is there; `export`: policies that describe it, so that a fleet that exists can be adopted."""

import io
from collections.abc import Mapping
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text
from ruamel.yaml import YAML

from cyborg_reconciler.bootstrap import Target, open_ports
from cyborg_reconciler.cli.common import (
    DONE,
    FAILED,
    console,
    errors_console,
    is_quiet,
    put_json,
    timed,
    with_hosts,
    with_output,
    with_state,
)
from cyborg_reconciler.core.export import describe
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.resolve import compile_policies
from cyborg_reconciler.core.select import device_type
from cyborg_reconciler.core.subject import Subject, describe_holders, ids_of, lay_out
from cyborg_reconciler.documents.facts import Device, Unknown
from cyborg_reconciler.ports import Observation, Unobserved
from cyborg_reconciler.settings import Settings

Observed = Mapping[str, Observation | Unobserved]


@click.command(short_help="What the hosts report of their devices.")
@with_hosts
@with_output
@with_state
@click.option("--all", "everything", is_flag=True, help="Every PCI function, not accelerators alone.")
def observe(*, inventory: tuple[str, ...], limit: str, output: str, settings: Settings, everything: bool) -> int:
    """Show what the hosts report: their devices, what each is bound to, and who uses it.

    \b
    Examples:
      cyborg-reconciler observe -i inventory/
      cyborg-reconciler observe -i compute-7, --output json
    """
    observed, subjects = _look(settings, Target(inventory or settings.inventory, limit, None), output)
    if output == "json":
        put_json({host: _data(found) for host, found in observed.items()})
    else:
        out = console()
        for host, subject in subjects.items():
            kernel = subject.facts.kernel
            iommu = "on" if kernel.iommu_enabled is True else "off" if kernel.iommu_enabled is False else "unknown"
            system = f"{_words(kernel.os_id)} {_words(kernel.os_version)}   kernel {_words(kernel.release)}"
            out.print(Text.assemble((host, "bold"), f"   {system}   IOMMU {iommu}"))
            out.print(_table(subject, everything=everything))
    return _say_unobserved(observed)


def _look(settings: Settings, target: Target, output: str) -> tuple[Observed, dict[str, Subject]]:
    with open_ports(settings, target, exclusive=False) as ports:
        declared = ports.declarations.read()
        hosts = ports.inventory.hosts()
        with timed("Observed", quiet=is_quiet(output)) as on_progress:
            observed = ports.observer.observe(hosts, modules_of(declared), on_progress)
        ports.journal.record_observations(observed)
    catalogue = compile_policies(declared).catalogue
    return observed, {
        host: lay_out(found.facts, catalogue) for host, found in observed.items() if isinstance(found, Observation)
    }


def _data(found: Observation | Unobserved) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(found, Unobserved):
        return {"unobserved": found.reason, "message": found.message}
    return msgspec.json.decode(found.document)


def _say_unobserved(observed: Observed) -> int:
    """Print which hosts could not be observed, and return what to exit with."""
    missing = {host: found for host, found in observed.items() if isinstance(found, Unobserved)}
    for host, found in missing.items():
        errors_console().print(Text(f"{host}: {found.reason}: {found.message}", "red"))
    return FAILED if missing else DONE


def _table(subject: Subject, *, everything: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for name in ("device", "type", "id", "driver", "VFs", "numa", "used by", "protected"):
        table.add_column(name, no_wrap=name not in {"used by", "protected"})
    for device in subject.facts.devices:
        kind = device_type(device, subject.catalogue)
        if not isinstance(device.physfn, str) and (everything or kind != "GENERIC"):
            table.add_row(*map(Text, _row(device, kind, subject)))
    return table


def _row(device: Device, kind: str, subject: Subject) -> tuple[str, ...]:
    drivers = [_words(device.driver), *([_words(device.function_driver)] if device.function_driver else [])]
    vfs = f"{_words(device.num_vfs)} of {device.total_vfs}" if isinstance(device.total_vfs, int) else ""
    vfs += ", autoprobe off" if device.vf_autoprobe is False else ""
    users = [
        f"VF {index}: {who}" for index, who in enumerate(_users(subject, address) for address in device.vfs) if who
    ]
    used = ", ".join(filter(None, [_users(subject, device.address), *users]))
    if isinstance(device.protected, Unknown):
        protected = "unknown"
    else:
        protected = ", ".join(dict.fromkeys(reason.reason.replace("_", " ") for reason in device.protected))
    ids = ids_of(device)
    numa = "" if device.numa_node is None else _words(device.numa_node)
    return device.address, kind, ids, " → ".join(drivers), vfs, numa, used, protected


def _users(subject: Subject, address: str) -> str:
    device = subject.devices.get(address)
    if device is None:
        return ""
    return "unknown" if isinstance(device.holders, Unknown) else describe_holders(device.holders)


def _words(fact: object) -> str:
    if isinstance(fact, Unknown):
        return "unknown"
    return "(none)" if fact is None else str(fact)


@click.command(short_help="Policies that describe what hosts have now.")
@with_hosts
@with_state
def export(*, inventory: tuple[str, ...], limit: str, settings: Settings) -> int:
    """Write policies that describe what the hosts have now, to standard output.

    With them, `plan` has nothing to do: a fleet that exists is adopted without a change.

    \b
    Example:
      cyborg-reconciler export -i inventory/ > policies/adopted.yml
    """
    observed, subjects = _look(settings, Target(inventory or settings.inventory, limit, None), "text")
    yaml = YAML()
    yaml.explicit_start = True
    text = io.StringIO()
    exported = describe(subjects)
    yaml.dump_all(exported.documents, text)
    for note in exported.left_out:
        errors_console().print(f"warning: {note}", style="yellow")
    click.echo(text.getvalue(), nl=False)
    return _say_unobserved(observed)
