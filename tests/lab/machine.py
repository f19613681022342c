# SPDX-License-Identifier: Apache-2.0
"""Which machine does a guest run on?

Called by `guest`. Pure: values in, QEMU's command line out. A snapshot fits only the machine that it was taken of, so
its name covers this file.
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.lab.image import KERNEL_ARGS, Image

#: The function of this slot of pcie.0 at which root port N sits: 0000:00:10.0 is rp1, 0000:00:10.1 rp2, and so on.
ROOT_PORT_SLOT = 0x10
ROOT_PORTS = ("rp1", "rp2", "rp3", "rp4", "rp5", "rp6")
MEMORY_MIB = 768
#: Where a guest finds the conductor: an address of QEMU's user network that no machine has, and the API's own port.
CONDUCTOR = ("10.0.2.100", 6670)
RELAY = Path(__file__).with_name("relay.py")
#: A second one takes a third off a boot where the machine has it free.
CPUS = 2


class Boot(Enum):
    """Who picks a guest's kernel and its arguments.

    KERNEL: QEMU does. The disk holds a GRUB configuration, which can be edited, and never has an effect.
    GRUB: the boot loader on the guest's own disk does, so an edit shows after a reboot.
    """

    KERNEL = "kernel"
    GRUB = "grub"


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device to plug in.

    Attributes:
        model: QEMU's name of it.
        name: QEMU's id for this one; its root port is given when it is plugged in.
        properties: further properties.
        backend: the QEMU object that it needs, if any, as `object-add` takes it.
    """

    model: str
    name: str
    properties: Mapping[str, object] = field(default_factory=dict)
    backend: Mapping[str, object] = field(default_factory=dict)


#: A teaching device, 1234:11e8, for which Linux has no driver.
EDU = Device("edu", "edu0")
#: A crypto accelerator, 1af4:1054: its PCI driver is virtio-pci, and the real one sits on the virtio bus.
VIRTIO_CRYPTO = Device(
    "virtio-crypto-pci",
    "crypto0",
    properties={"cryptodev": "cryptodev0"},
    backend={"qom-type": "cryptodev-backend-builtin", "id": "cryptodev0"},
)
#: An NVMe disk with 4 VFs, whose driver does not probe until the secondary controllers are brought online.
NVME = Device(
    "nvme",
    "nvme0",
    properties={
        "serial": "lab0",
        "subsys": "subsys0",
        "sriov_max_vfs": 4,
        "sriov_vq_flexible": 8,
        "sriov_vi_flexible": 4,
        "max_ioqpairs": 26,
        "msix_qsize": 9,
    },
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One guest's machine.

    Attributes:
        image: its kernel and initrd, used when *boot* is KERNEL.
        disk: its own overlay.
        console: the file that its serial console is written to.
        socket: where QEMU listens for QMP.
        watched: the same for whoever watches.
        conductor: the file that names the loopback port to which connections to CONDUCTOR are carried.
        ssh_port: the loopback port that leads to its sshd; 0 lets the system pick a free one.
        state: a saved state to go on from, instead of booting.
    """

    name: str
    image: Image
    boot: Boot
    disk: Path
    console: Path
    socket: Path
    watched: Path
    conductor: Path
    ssh_port: int = 0
    state: Path | None = None


def qemu_command(machine: Machine) -> list[str]:
    """Return the command that runs *machine*.

    TCG always: on machines that are guests themselves, /dev/kvm may be there and a guest under it crawl.
    """
    command = ["qemu-system-x86_64", "-name", machine.name, "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "Nehalem"]
    command += ["-machine", "q35,sata=off,smbus=off,smm=off,hpet=off", "-smp", str(CPUS), "-m", str(MEMORY_MIB)]
    command += ["-nodefaults", "-display", "none"]
    for socket in (machine.socket, machine.watched):
        command += ["-qmp", f"unix:{socket},server=on,wait=off"]
    command += ["-serial", f"file:{machine.console}"]
    command += ["-device", "intel-iommu,intremap=on"]
    command += ["-drive", f"file={machine.disk},if=none,id=disk0,cache=unsafe,discard=unmap"]
    command += ["-device", "virtio-blk-pci,drive=disk0,bus=pcie.0,addr=4,bootindex=1"]
    # restrict: a guest reaches nobody but the conductor; the forwarded port is the one way in.
    ways = (
        f"hostfwd=tcp:127.0.0.1:{machine.ssh_port}-:22,guestfwd=tcp:{CONDUCTOR[0]}:{CONDUCTOR[1]}-cmd:{_relay(machine)}"
    )
    command += ["-netdev", f"user,id=management,ipv6=off,restrict=on,{ways}"]
    command += ["-device", "virtio-net-pci,netdev=management,bus=pcie.0,addr=5,romfile="]
    command += ["-device", "virtio-rng-pci,bus=pcie.0,addr=6"]
    for function, port in enumerate(ROOT_PORTS):
        place = f"chassis={function + 1},slot={function + 1},addr={ROOT_PORT_SLOT:x}.{function},multifunction=on"
        command += ["-device", f"pcie-root-port,id={port},bus=pcie.0,{place}"]
    command += ["-netdev", "user,id=sriov,ipv6=off,restrict=on"]
    command += ["-device", "igb,bus=rp1,netdev=sriov,mac=52:54:00:00:01:01,romfile="]
    command += ["-device", "nvme-subsys,id=subsys0,nqn=lab0"]
    if machine.boot is Boot.KERNEL:
        command += ["-kernel", str(machine.image.kernel), "-initrd", str(machine.image.initrd)]
        command += ["-append", f"root=/dev/vda rw {KERNEL_ARGS}"]
    if machine.state:
        command += ["-incoming", f"file:{machine.state}"]
    return command


def _relay(machine: Machine) -> str:
    """Return the command that carries one connection, as an option of QEMU holds it: a comma is doubled."""
    return shlex.join([sys.executable, "-IS", str(RELAY), str(machine.conductor)]).replace(",", ",,")


def root_port_address(port: str) -> str:
    """Return the PCI address of the root port *port* (``rp1`` to ``rp6``)."""
    return f"0000:00:{ROOT_PORT_SLOT:02x}.{ROOT_PORTS.index(port)}"
