# SPDX-License-Identifier: Apache-2.0
"""The commands of Cyborg's generic driver, over the API: which drivers and services there are, and who is to have them.

Source: Cyborg's generic driver proposal of the Pike release.
"""

import http
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args
from urllib.parse import urlencode

import click
from rich.text import Text

from cyborg_reconciler.cli.common import DONE, FAILED, console, errors_console, put_json, with_output
from cyborg_reconciler.cli.remote import Remote, ServerError, path_of, with_server
from cyborg_reconciler.cli.tables import plain_table
from cyborg_reconciler.documents.rest.fleet import ServiceType
from cyborg_reconciler.stores.accelerators import ACCELERATORS

Row = Mapping[str, Any]

BACKENDS: Final = "/v1/backends"
DRIVERS: Final = "/v1/drivers"
#: What is shown of a run under another name: there are other uuids beside its own.
NAMES: Final = {"uuid": "run"}
#: The types of services.
SERVICES: Final = get_args(ServiceType)


def _show(output: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    if output == "json":
        put_json(list(rows))
    elif not rows:
        console().print("none")
    else:
        table = plain_table(*columns)
        for row in rows:
            table.add_row(*(Text("" if row.get(name) is None else str(row[name])) for name in columns))
        console().print(table)


@click.command("driver-list", short_help="The drivers that there are.")
@with_output
@with_server
def driver_list(*, remote: Remote, output: str) -> int:
    """List the drivers of the catalogue, and how many hosts have devices of theirs.

    \b
    Example:
      cyborg-reconciler driver-list
    """
    hosts: dict[str, set[str]] = {}
    for backend in remote.pages(BACKENDS, "backends", {"limit": 1000}):
        if backend["accelerators"]:
            hosts.setdefault(backend["driver"], set()).add(backend["host"])
    rows = [
        {
            "driver": one["name"],
            "type": one["driver"]["spec"]["device_type"],
            "hosts": len(hosts.get(one["name"], ())),
            "from": one["file"] or "shipped",
        }
        for one in remote.pages(DRIVERS, "drivers", {})
    ]
    _show(output, rows, ("driver", "type", "hosts", "from"))
    return DONE


@click.command("service-list", short_help="Which services there are, and which are up.")
@click.option("--type", "kind", type=click.Choice(SERVICES), help="Only those of this type.")
@click.option("--host", help="Only on this machine.")
@click.option("--status", type=click.Choice(("up", "down")), help="Only those that are up, or down.")
@with_output
@with_server
def service_list(*, remote: Remote, output: str, kind: str | None, host: str | None, status: str | None) -> int:
    """List the servers of the API, conductors, workers, agents and agents' drivers, and whether each is up.

    \b
    Examples:
      cyborg-reconciler service-list --type conductor
      cyborg-reconciler service-list --status down
    """
    wanted = {"type": kind, "host": host, "status": status}
    rows = list(remote.pages("/v1/services", "services", wanted))
    _show(output, rows, ("type", "host", "name", "status", "last_seen_at", "message"))
    return DONE


@click.command("backend-list", short_help="What the backends offer: each driver on each host.")
@click.option("--host", help="Only on this host.")
@with_output
@with_server
def backend_list(*, remote: Remote, output: str, host: str | None) -> int:
    """List what each backend offers; a backend is one driver on one host.

    \b
    Example:
      cyborg-reconciler backend-list --host compute-7
    """
    rows = [
        {"backend": backend["uuid"], "host": backend["host"], "driver": backend["driver"], **service}
        for backend in remote.pages(BACKENDS, "backends", {"host": host})
        for service in _services_of(remote, backend["uuid"])
    ]
    _show(output, rows, ("host", "driver", "device_type", "acc_type", "accelerators", "ready", "num"))
    return DONE


def _services_of(remote: Remote, backend: str) -> Sequence[Row]:
    """Return what a backend offers; nothing where it has gone since it was listed, with its driver."""
    try:
        found: Sequence[Row] = remote("GET", f"{BACKENDS}/{backend}/services").document["services"]
    except ServerError as exc:
        if exc.status != http.HTTPStatus.NOT_FOUND:
            raise
        return ()
    return found


@click.command("discover-services", short_help="Have hosts looked at again.")
@click.option("--host", help="Only this host.")
@click.option("--driver", help="Only the devices of this driver, where the host has an agent.")
@with_output
@with_server
def discover_services(*, remote: Remote, output: str, host: str | None, driver: str | None) -> int:
    """Have all hosts, or one, looked at again: by their agents, or by Ansible where they have none.

    \b
    Examples:
      cyborg-reconciler discover-services
      cyborg-reconciler discover-services --host compute-7
    """
    if driver is not None and host is None:
        raise click.UsageError("--driver needs --host", click.get_current_context())
    of_driver = () if driver is None else ("drivers", driver)
    begun = remote("POST", path_of("v1", *(() if host is None else ("hosts", host)), *of_driver, "discovery")).document
    if output == "json":
        put_json({"host": host, "driver": driver, **begun})
    else:
        console().print(f"{host or 'all hosts'}: it has begun")
    return DONE


def _asking(wish: str, done: str, *, versions: bool) -> Callable[[Callable[..., int]], click.Command]:
    """Make the command that asks for *wish* on one host, or on all that have devices of the driver."""

    def make(described: Callable[..., int]) -> click.Command:
        def ask(*, remote: Remote, output: str, driver_id: str, host: str | None, version: str | None = None) -> int:
            hosts = _hosts_of(remote, driver_id) if host is None else [host]
            if not hosts:
                is_there = any(one["name"] == driver_id for one in remote.pages(DRIVERS, "drivers", {}))
                why = f"no host has a device of the driver {driver_id}; name one with --host"
                errors_console().print(why if is_there else f"there is no driver {driver_id}; see driver-list")
                return FAILED
            asked, failed = [], 0
            for name in hosts:
                path = path_of("v1", "hosts", name, "drivers", driver_id, wish)
                try:
                    asked.append(remote("POST", path + (f"?{urlencode({'version': version})}" if version else "")))
                except ServerError as exc:
                    if host is not None:
                        raise
                    failed += 1
                    errors_console().print(f"{name}: {exc.line()}")
            rows = [{NAMES.get(name, name): value for name, value in one.document.items()} for one in asked]
            _show(output, rows, ("host", "driver", "state", "version", "status", "run"))
            return FAILED if failed else DONE

        ask.__doc__ = described.__doc__
        command: Callable[..., int] = with_output(with_server(ask))
        command = click.option("--host", help="On this host alone.")(command)
        if versions:
            command = click.option("--version", help="In this version.")(command)
        command = click.argument("driver_id")(command)
        return click.command(f"{wish}-driver", short_help=f"Have a driver {done}.")(command)

    return make


def _hosts_of(remote: Remote, driver: str) -> list[str]:
    """Return the hosts that have devices of *driver*, and those with devices that it is for as well as another one."""
    found = remote.pages(BACKENDS, "backends", {"driver": driver, "limit": 1000})
    hosts = {one["host"] for one in found if one["accelerators"]}
    for ids in _ids_of(remote, driver):
        of_ids = remote.pages(ACCELERATORS, "accelerator", {**ids, "limit": 1000})
        hosts |= {one["host"] for one in of_ids if one["host"] and not one["driver"]}
    return sorted(hosts)


def _ids_of(remote: Remote, driver: str) -> Iterator[Mapping[str, str]]:
    """Yield the ids that *driver* names of its devices, as accelerators are asked for by them."""
    known = (one["driver"]["spec"] for one in remote.pages(DRIVERS, "drivers", {}) if one["name"] == driver)
    rules = (rule for spec in known for rule in spec.get("match", ()) if "vendor_id" in rule and "class" not in rule)
    for rule in rules:
        products = [{"product_id": one} for one in rule.get("product_id", ())]
        yield from ({"vendor_id": rule["vendor_id"], **product} for product in products or [{}])


@_asking("install", "installed", versions=True)
def install_driver() -> int:
    """Have the driver DRIVER_ID installed on a host, or on every host that has devices of it.

    It is declared, and carried out by the host's next pass as its pool and approvals let it; `history` has the runs.

    \b
    Examples:
      cyborg-reconciler install-driver virtio-crypto
      cyborg-reconciler install-driver edu --host compute-7 --version 1.0
    """
    return DONE


@_asking("uninstall", "taken away", versions=False)
def uninstall_driver() -> int:
    """Have the driver DRIVER_ID taken away from a host, or from every host that has devices of it.

    \b
    Example:
      cyborg-reconciler uninstall-driver edu --host compute-7
    """
    return DONE


@_asking("update", "brought to a version", versions=True)
def update_driver() -> int:
    """Have the driver DRIVER_ID brought to a version on a host, or on every host that has devices of it.

    \b
    Example:
      cyborg-reconciler update-driver edu --version 1.1
    """
    return DONE
