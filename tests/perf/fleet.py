# SPDX-License-Identifier: Apache-2.0
"""Which hosts does the bench plan for: three kinds of compute host, each with eight PCI functions, in any number?

Called by the rows of the core. `write_templates` does I/O, once a run: it starts a simulated host of each kind, makes
it what the policies declare, reads its facts with the collection's own reader, then breaks something and reads again.
The rest is pure: from these recorded facts it yields the JSON of as many hosts as are wanted, each with a name, serial
numbers, MAC addresses and a fingerprint of its own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.parse import parse_documents
from cyborg_reconciler.simulation import Machine, SimulatedHost, SimulatedHosts, gpu_1, nic_1, qat_1

POLICIES: Final = Path(__file__).with_name("policies.yml")
DEVICES: Final = 8

#: What a host of each kind has before anything of ours touches it, so that it is as `policies.yml` declares.
ARGS: Final = "intel_iommu=on iommu=pt default_hugepagesz=1G hugepages=64"
FILES: Final = {
    "/etc/modprobe.d/local.conf": "options vfio-pci disable_vga=1\nblacklist firewire_ohci\nblacklist nouveau\n",
    "/etc/modules-load.d/local.conf": "vfio-pci\n",
}
#: How many of a hundred hosts are of which kind.
SHARES: Final = {"gpu-1": 40, "qat-1": 30, "nic-1": 30}
GROUPS: Final = {"gpu-1": "gpu", "qat-1": "crypto", "nic-1": "network"}
HOSTS_PER_RACK: Final = 40

#: In how many ways the devices of a kind are laid out, unless a row says otherwise: generations of boards, and slots.
LAYOUTS: Final = 20

#: Stands in the templates where a host's own number goes, written with as many digits.
MARK: Final = "7e57ab1e"


@dataclass(frozen=True, slots=True)
class Template:
    """The facts of one kind of host as JSON: as it is declared, and with something changed by hand."""

    synced: bytes
    drifted: bytes


def declarations() -> Declared:
    """Return the 20 policies, read as the reconciler reads a file of a user."""
    parsed = parse_documents(POLICIES.read_text(encoding="utf-8"), POLICIES.name)
    if parsed.problems:
        raise ValueError("\n".join(map(str, parsed.problems)))
    return Declared(policies=parsed.documents, digest="bench")


# ------------------------------------------------------------------------------------------------------------- machines
def machines() -> tuple[Machine, ...]:
    """Return one machine of each kind; the VFs that the policies declare make up for what is missing to eight."""
    gpu, qat, nic = gpu_1(), qat_1(), nic_1()
    data = nic.function("0000:c2:00.0")
    spare = [f for f in nic.functions if f.address != "0000:c1:01.0"]  # the data drive needs no port of its own
    return tuple(
        replace(machine, grub_args=ARGS, files=FILES, early_modules=("nvme",), functions=tuple(functions))
        for machine, functions in (
            (gpu, [*gpu.functions, replace(data, under=None)]),
            (qat, qat.functions),
            (nic, [replace(f, under=None) if f is data else f for f in spare]),
        )
    )


def make_as_declared(host: SimulatedHost) -> None:
    """Do by hand, through the host's kernel, what the policies ask for of its devices."""
    for pf in {"qat-1": ["0000:6b:00.0"], "nic-1": ["0000:ca:00.1"]}.get(host.name, []):
        host.write(f"/sys/bus/pci/devices/{pf}/sriov_numvfs", 2)
        for link in ("virtfn0", "virtfn1"):
            bind(host, host.link_name(f"/sys/bus/pci/devices/{pf}/{link}") or "", "vfio-pci")
    if host.name == "gpu-1":
        bind(host, "0000:3b:00.0", "vfio-pci")
        bind(host, "0000:3b:00.1", "vfio-pci")


def drift(host: SimulatedHost) -> None:
    """Take a device off the driver that the policies declare for it."""
    pf = {"qat-1": "0000:6b:00.0", "nic-1": "0000:ca:00.1"}.get(host.name)
    device = host.link_name(f"/sys/bus/pci/devices/{pf}/virtfn1") if pf else "0000:3b:00.0"
    host.write(f"/sys/bus/pci/devices/{device}/driver/unbind", str(device))


def bind(host: SimulatedHost, address: str, driver: str) -> None:
    """Bind a function to *driver* as an administrator does."""
    place = f"/sys/bus/pci/devices/{address}"
    host.write(f"{place}/driver_override", driver)
    if host.link_name(f"{place}/driver"):
        host.write(f"{place}/driver/unbind", address)
    host.write("/sys/bus/pci/drivers_probe", address)


# ------------------------------------------------------------------------------------------------------------ templates
def write_templates(folder: Path, work: Path) -> None:
    """Write the templates to *folder*; *work* is where the simulated hosts are while this runs."""
    modules = tuple(modules_of(declarations()))
    with SimulatedHosts(work, machines()) as hosts:
        for name, host in hosts.items():
            make_as_declared(host)
            (folder / f"{name}.synced.json").write_bytes(read_template(host, modules))
            drift(host)
            (folder / f"{name}.drifted.json").write_bytes(read_template(host, modules))


def read_template(host: SimulatedHost, modules: tuple[str, ...]) -> bytes:
    """Return the facts of *host* as compact JSON, with the mark wherever its identity shows."""
    facts = gather(Tree(str(host.root)), modules=modules, connection="local")
    if len(facts["devices"]) != DEVICES:
        raise ValueError(f"{host.name} has {len(facts['devices'])} devices, and {DEVICES} are wanted")
    facts["hostname"] = f"compute-{MARK}"
    facts["machine_id"] = MARK * 4
    facts["kernel"]["boot_id"] = f"{MARK}-0000-4000-8000-000000000000"
    facts["fingerprint"] = facts["fingerprint"][: -len(MARK)] + MARK
    for device in facts["devices"]:
        if device.get("serial") is not None:
            device["serial"] = f"SN{MARK}{device['address'][-2:]}"
        device["macs"] = [f"52:54:{MARK[:2]}:{MARK[2:4]}:{MARK[4:6]}:{MARK[6:]}" for _ in device.get("macs", [])]
    return json.dumps(facts, separators=(",", ":")).encode()


def read_templates(folder: Path) -> Mapping[str, Template]:
    """Return the templates that `write_templates` wrote."""
    return {
        name: Template((folder / f"{name}.synced.json").read_bytes(), (folder / f"{name}.drifted.json").read_bytes())
        for name in SHARES
    }


# ------------------------------------------------------------------------------------------------------------ the fleet
def kind_of(number: int) -> str:
    """Return the kind of host *number*; kinds are spread evenly."""
    # Every hundred hosts hold each place once, since 37 and 100 share no factor; and each hundred in another order.
    place = (number * 37 + number // 100 * 13) % 100
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    raise ValueError(number)


def host_at(number: int) -> Host:
    """Return host *number* as the inventory lists it."""
    labels = {"rack": f"r{number // HOSTS_PER_RACK}", "stage": "production"}
    return Host(f"compute-{number:08x}", frozenset({"compute", GROUPS[kind_of(number)]}), labels)


def document(templates: Mapping[str, Template], number: int, *, drifted: bool, layouts: int = LAYOUTS) -> bytes:
    """Return the JSON that host *number* reports; its layout is the PCI domain that all its devices are in."""
    template = templates[kind_of(number)]
    text = template.drifted if drifted else template.synced
    digits = b"%08x" % number
    mac = b":".join(digits[at : at + 2] for at in (0, 2, 4, 6))
    marked_mac = ":".join(MARK[at : at + 2] for at in (0, 2, 4, 6)).encode()
    domain = b"%04x:" % (number % layouts)
    return text.replace(MARK.encode(), digits).replace(marked_mac, mac).replace(b"0000:", domain)


def batches(count: int, size: int = 100) -> Iterator[range]:
    """Yield the numbers from 0 below *count* in ranges of *size*."""
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
