# SPDX-License-Identifier: Apache-2.0
"""Which hosts do the demo and the tests start with? Three machines, and one of any size for the bench. Pure: values.

Ids, classes and capabilities are those of the hardware that each is modelled on; nothing else is.
"""

from dataclasses import replace

from cyborg_reconciler.simulation.catalogue import BUILTIN, MODULES, NVIDIA
from cyborg_reconciler.simulation.machine import Disk, Function, Machine, MdevType, Port, Sriov

#: The product id of a virtio 1.0 device is this plus its type. Source: virtio 1.2, section 4.1.2.
VIRTIO_PRODUCT = 0x1040


def root_port(address: str) -> Function:
    """Return a PCI Express root port: a bridge that devices are put under."""
    return Function(
        address=address,
        vendor_id="8086",
        product_id="347a",
        class_id="060400",
        subsystem_vendor_id="8086",
        revision="04",
        name="Root port",
    )


def boot_disk(address: str, under: str, *, name: str = "nvme0n1") -> Function:
    """Return an NVMe drive with the root file system on its second partition."""
    return Function(
        address=address,
        vendor_id="144d",
        product_id="a80a",
        class_id="010802",
        subsystem_vendor_id="144d",
        subsystem_id="a801",
        under=under,
        disk=Disk(name=name, model="Simulated NVMe 480G", mounts=("/boot/efi", "/")),
        serial="S5SIM0000001",
        link=("16.0", 4),
        link_max=("16.0", 4),
        name="NVMe SSD",
    )


def management_port(address: str, under: str, host_number: int) -> Function:
    """Return a plain NIC that carries the default route."""
    return Function(
        address=address,
        vendor_id="8086",
        product_id="1533",
        class_id="020000",
        subsystem_vendor_id="8086",
        subsystem_id="0001",
        revision="03",
        under=under,
        ports=(
            Port(
                name="eno1",
                mac=f"52:54:00:a0:00:{host_number:02x}",
                address=f"192.0.2.{host_number}/24",
                gateway="192.0.2.1",
            ),
        ),
        link=("2.5", 1),
        link_max=("2.5", 1),
        name="I210 Gigabit Network Connection",
    )


def gpu_1(name: str = "gpu-1") -> Machine:
    """Return a host with a GPU, which nouveau takes early, and whose audio function shares its IOMMU group."""
    types = (("nvidia-468", "GRID A100-4C", 10), ("nvidia-470", "GRID A100-10C", 4), ("nvidia-474", "GRID A100-40C", 1))
    gpu = Function(
        address="0000:3b:00.0",
        vendor_id="10de",
        product_id="20b0",
        class_id="030200",
        subsystem_vendor_id="10de",
        subsystem_id="134f",
        revision="a1",
        under="0000:3a:00.0",
        isolated=False,
        sriov=Sriov(total_vfs=16, vf_device_id="20b0", offset=4, stride=1),
        mdev_types=tuple(MdevType(type_id=kind, name=title, available=count) for kind, title, count in types),
        serial="1320SIM00042",
        part_number="900-SIM-0000-000",
        slot="3",
        name="A100-like GPU",
    )
    audio = Function(
        address="0000:3b:00.1",
        vendor_id="10de",
        product_id="1aef",
        class_id="040300",
        subsystem_vendor_id="10de",
        subsystem_id="134f",
        revision="a1",
        under="0000:3a:00.0",
        isolated=False,
        name="Audio function of the GPU",
    )
    ports = (root_port("0000:3a:00.0"), root_port("0000:00:1c.0"), root_port("0000:00:1d.0"))
    nic = management_port("0000:01:00.0", "0000:00:1c.0", 11)
    return Machine(
        name=name,
        functions=(*ports, nic, boot_disk("0000:02:00.0", "0000:00:1d.0"), gpu, audio),
        modules=(*MODULES, NVIDIA),
        builtin=BUILTIN,
        early_modules=("nvme", "nouveau"),
        groups=("gpu",),
        labels={"pool": "gpu"},
    )


def qat_1(name: str = "qat-1") -> Machine:
    """Return a host with one QAT device that can make 16 VFs; no driver of the kernel takes those."""
    qat = Function(
        address="0000:6b:00.0",
        vendor_id="8086",
        product_id="4940",
        class_id="0b4000",
        subsystem_vendor_id="8086",
        revision="40",
        under="0000:6a:01.0",
        sriov=Sriov(total_vfs=16, vf_device_id="4941"),
        link=("16.0", 16),
        slot="7",
        name="QAT 4xxx",
    )
    ports = (root_port("0000:6a:01.0"), root_port("0000:00:1c.0"), root_port("0000:00:1d.0"))
    nic = management_port("0000:01:00.0", "0000:00:1c.0", 12)
    return Machine(
        name=name,
        functions=(*ports, nic, boot_disk("0000:02:00.0", "0000:00:1d.0"), qat),
        modules=MODULES,
        builtin=BUILTIN,
        early_modules=("nvme",),
        groups=("crypto",),
        labels={"pool": "crypto"},
    )


def nic_1(name: str = "nic-1") -> Machine:
    """Return a host with two SR-IOV ports, the first with the default route, and two NVMe drives."""
    first = _ice_port(
        "0000:ca:00.0", Port(name="ens7f0", mac="52:54:00:ca:00:00", address="192.0.2.13/24", gateway="192.0.2.1")
    )
    second = _ice_port("0000:ca:00.1", Port(name="ens7f1", mac="52:54:00:ca:00:01"))
    data = Function(
        address="0000:c2:00.0",
        vendor_id="8086",
        product_id="0a54",
        class_id="010802",
        subsystem_vendor_id="8086",
        subsystem_id="4702",
        under="0000:c1:01.0",
        disk=Disk(name="nvme1n1", size_gib=3840, model="Simulated NVMe 3.84T"),
        serial="PHLJSIM000000001",
        link=("8.0", 4),
        link_max=("8.0", 4),
        slot="12",
        name="NVMe data drive",
    )
    ports = (root_port("0000:c9:02.0"), root_port("0000:c1:01.0"), root_port("0000:00:1d.0"))
    return Machine(
        name=name,
        functions=(*ports, boot_disk("0000:02:00.0", "0000:00:1d.0"), data, first, second),
        modules=MODULES,
        builtin=BUILTIN,
        early_modules=("nvme",),
        groups=("network",),
        labels={"pool": "network"},
    )


def _ice_port(address: str, port: Port) -> Function:
    """Return one port of an E810; the VFs of the second come after the 64 of the first."""
    number = int(address[-1])
    return Function(
        address=address,
        vendor_id="8086",
        product_id="1592",
        class_id="020000",
        subsystem_vendor_id="8086",
        subsystem_id="0002",
        revision="02",
        under="0000:c9:02.0",
        sriov=Sriov(total_vfs=64, vf_device_id="1889", offset=8 + 63 * number),
        ports=(port,),
        serial="52-54-00-ff-ff-ca-00-00",
        part_number="K00000-SIM",
        slot="5",
        name="E810-C for QSFP",
    )


def guest_1(name: str = "guest-1") -> Machine:
    """Return a virtual machine: virtio disk, network and crypto, an SR-IOV NIC, and a device without a driver."""
    nic = Function(
        address="0000:01:00.0",
        vendor_id="8086",
        product_id="10c9",
        class_id="020000",
        subsystem_vendor_id="8086",
        subsystem_id="a03c",
        revision="01",
        under="0000:00:04.0",
        sriov=Sriov(total_vfs=7, vf_device_id="10ca", offset=128, stride=2),
        ports=(Port(name="enp1s0", mac="52:54:00:10:c9:00"),),
        link=("2.5", 4),
        link_max=("2.5", 4),
        name="82576 Gigabit Network Connection",
    )
    port = Port(name="enp0s2", mac="52:54:00:12:34:56", address="10.0.2.15/24", gateway="10.0.2.2")
    return Machine(
        name=name,
        functions=(
            replace(_virtio("0000:00:02.0", "020000", 1), ports=(port,)),
            replace(_virtio("0000:00:03.0", "010000", 2), disk=Disk(name="vda", size_gib=8, mounts=("/",))),
            root_port("0000:00:04.0"),
            _virtio("0000:00:05.0", "108000", 20),
            Function(address="0000:00:06.0", vendor_id="1234", product_id="11e8", class_id="00ff00", revision="10"),
            nic,
        ),
        modules=MODULES,
        builtin=BUILTIN,
        early_modules=("virtio_pci", "virtio_blk"),
        groups=("guests",),
        labels={"pool": "guests"},
    )


def _virtio(address: str, class_id: str, kind: int) -> Function:
    return Function(
        address=address,
        vendor_id="1af4",
        product_id=f"{VIRTIO_PRODUCT + kind:04x}",
        class_id=class_id,
        subsystem_vendor_id="1af4",
        subsystem_id="1100",
        revision="01",
        virtio=kind,
        link=None,
        link_max=None,
    )


def demo_machines() -> tuple[Machine, ...]:
    """Return the hosts of the demo."""
    return gpu_1(), qat_1(), nic_1()


def rocky(machine: Machine) -> Machine:
    """Return *machine* with a distribution of the Red Hat family: grubby and dracut."""
    return replace(machine, family="redhat", kernels=("5.14.0-427.13.1.el9_4.x86_64",))


def large(count: int, name: str = "large-1") -> Machine:
    """Return a host with *count* functions: a management NIC and a boot disk with their ports, the rest QAT devices."""
    ports = [root_port("0000:00:1c.0"), root_port("0000:00:1d.0")]
    base = [*ports, management_port("0000:01:00.0", "0000:00:1c.0", 99), boot_disk("0000:02:00.0", "0000:00:1d.0")]
    rest = [_crowd_member(index) for index in range(max(0, count - len(base)))]
    return Machine(
        name=name,
        functions=(*base, *rest),
        modules=MODULES,
        builtin=BUILTIN,
        early_modules=("nvme",),
        groups=("crypto",),
        labels={"pool": "large"},
    )


def _crowd_member(index: int) -> Function:
    """Return device *index* of a large host: one a bus, in as many domains as it takes."""
    domain, bus = divmod(index, 128)
    return Function(
        address=f"{domain + 1:04x}:{bus + 1:02x}:00.0",
        vendor_id="8086",
        product_id="4940",
        class_id="0b4000",
        subsystem_vendor_id="8086",
        revision="40",
        numa_node=domain % 2,
        sriov=Sriov(total_vfs=16, vf_device_id="4941"),
        name="QAT 4xxx",
    )
