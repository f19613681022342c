# SPDX-License-Identifier: Apache-2.0
"""`accelerator` and `attach-instance`, `detach-instance`: accelerators, over the API."""

from collections.abc import Sequence
from typing import Any, Final, get_args
from uuid import UUID

import click
from rich.text import Text

from cyborg_reconciler.cli.common import DONE, FAILED, console, errors_console, put_json, with_output
from cyborg_reconciler.cli.remote import Remote, ServerError, with_server
from cyborg_reconciler.cli.tables import plain_table
from cyborg_reconciler.documents.base import DeviceType
from cyborg_reconciler.stores.accelerators import ACCELERATORS, State

COLUMNS: Final = ("uuid", "name", "host", "type", "state", "desired", "health", "attached to")

TYPES: Final = get_args(DeviceType)

#: The status that says that somebody else was faster.
CONFLICT: Final = 409


def _show(output: str, found: Sequence[dict[str, Any]]) -> None:
    if output == "json":
        put_json(list(found))
    elif not found:
        console().print("none")
    else:
        table = plain_table(*COLUMNS)
        for one in found:
            held = one["attachment"] or {}
            cells = (
                *(one["uuid"], one["name"], one["host"], one["acc_specs"]["device_type"], one["state"]),
                *(one["desired_state"], one["acc_status"]["health"]),
                held.get("instance_uuid") or held.get("host") or held.get("project_id"),
            )
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
        console().print(table)
        for one in found:
            if one["desired_state"] == "ready" and one["acc_status"].get("reason"):  # a server of before gives none
                console().print(Text(f"{one['name']}: {one['acc_status']['reason']}"))


@click.group(short_help="Accelerators, over the API.")
def accelerator() -> None:
    """List accelerators, look at one, set its state: over the API of a server."""


@accelerator.command("list", short_help="The accelerators.")
@click.option("--type", "device_type", type=click.Choice(TYPES), help="Only those of this type.")
@click.option("--host", help="Only those on this host.")
@click.option("--driver", help="Only those of this driver.")
@click.option("--state", type=click.Choice(get_args(State)), help="Only those in this state.")
@click.option("--attached/--free", default=None, help="Only those that are attached, or are not.")
@with_output
@with_server
def list_(*, remote: Remote, output: str, attached: bool | None, **filters: str | None) -> int:
    """List the accelerators.

    \b
    Examples:
      cyborg-reconciler accelerator list --type CRYPTO --state ready --free
      cyborg-reconciler accelerator list --driver virtio-crypto --attached
      cyborg-reconciler accelerator list --host compute-7 --output json
    """
    given = {**filters, "attached": None if attached is None else str(attached).lower(), "sort": "host"}
    _show(output, list(remote.pages(ACCELERATORS, "accelerator", given)))
    return DONE


@accelerator.command(short_help="One accelerator.")
@click.argument("uuid", type=click.UUID)
@with_output
@with_server
def show(*, remote: Remote, output: str, uuid: UUID) -> int:
    """Show an accelerator.

    \b
    Example:
      cyborg-reconciler accelerator show 8e45a2ea-5364-4b0d-a252-bf8becaa606e
    """
    _show(output, [remote("GET", f"{ACCELERATORS}/{uuid}").document])
    return DONE


@accelerator.command("set", short_help="Set an accelerator ready, inactive or in maintenance.")
@click.argument("uuid", type=click.UUID)
@click.argument("state", type=click.Choice(get_args(State)))
@with_output
@with_server
def set_(*, remote: Remote, output: str, uuid: UUID, state: str) -> int:
    """Declare the state of an accelerator; what is set ready is offered as ready once its driver is verified.

    \b
    Example:
      cyborg-reconciler accelerator set 8e45a2ea-5364-4b0d-a252-bf8becaa606e ready
    """
    step = {"op": "replace", "path": "/desired_state", "value": state}
    _show(output, [remote("PATCH", f"{ACCELERATORS}/{uuid}", [step]).document])
    return DONE


@click.command("attach-instance", short_help="Attach an accelerator to a VM.")
@click.argument("instance_id")
@click.option("--accelerator", "uuid", type=click.UUID, metavar="UUID", help="This accelerator.")
@click.option("--type", "device_type", type=click.Choice(TYPES), help="One of this type that is ready and free.")
@with_output
@with_server
def attach_instance(
    *, remote: Remote, output: str, instance_id: str, uuid: UUID | None, device_type: str | None
) -> int:
    """Attach an accelerator to the VM INSTANCE_ID: the one that is named, or any that is ready and free.

    \b
    Examples:
      cyborg-reconciler attach-instance 11111111-2222-3333-4444-555555555555 --type CRYPTO
      cyborg-reconciler attach-instance 11111111-2222-3333-4444-555555555555 --accelerator 8e45a2ea-…
    """
    if uuid and device_type:
        raise click.UsageError("--accelerator or --type, not both", click.get_current_context())
    body = {"instance_uuid": instance_id}
    if uuid:
        _show(output, [remote("PUT", f"{ACCELERATORS}/{uuid}", body).document])
        return DONE
    wanted = {"state": "ready", "attached": "false", "device_type": device_type}
    last: ServerError | None = None
    for one in remote.pages(ACCELERATORS, "accelerator", wanted):
        try:
            _show(output, [remote("PUT", f"{ACCELERATORS}/{one['uuid']}", body).document])
        except ServerError as exc:
            if exc.status != CONFLICT:
                raise
            last = exc  # somebody else was faster: the next one will do
        else:
            return DONE
    if last is not None:
        raise last
    errors_console().print(f"no accelerator{f' of type {device_type}' if device_type else ''} is ready and free")
    return FAILED


@click.command("detach-instance", short_help="Detach the accelerators of a VM.")
@click.argument("instance_id")
@with_output
@with_server
def detach_instance(*, remote: Remote, output: str, instance_id: str) -> int:
    """Detach all accelerators of the VM INSTANCE_ID; those of which there are allocations are told of, and stay.

    \b
    Example:
      cyborg-reconciler detach-instance 11111111-2222-3333-4444-555555555555
    """
    held = list(remote.pages(ACCELERATORS, "accelerator", {"instance_uuid": instance_id}))
    detached = []
    for one in held:
        try:
            remote("DELETE", f"{ACCELERATORS}/{one['uuid']}")
        except ServerError as exc:
            if exc.status != CONFLICT:
                raise
            errors_console().print(exc.line())
        else:
            detached.append({**one, "attachment": None})
    _show(output, detached)
    return DONE if len(detached) == len(held) else FAILED
