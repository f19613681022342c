# SPDX-License-Identifier: Apache-2.0
"""Hosts, policies and records of ownership as hypothesis generates them; what is generated is small and can be read.

A host has up to three PFs (with VFs of their own), up to three plain functions (some share an IOMMU group), a bridge,
four modules and a command line. `hosts(unknowns=True)` makes some of it unreadable, or left
over from somebody; `busy=True` puts some of it to use.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from cyborg_reconciler.core import ranges
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.policy import AcceleratorPolicy

PFS = ("0000:18:00.0", "0000:6b:00.0", "0001:6b:00.0")
PLAIN = ("0000:65:00.0", "0000:65:00.1", "0000:af:00.0")
BRIDGE = "0000:64:00.0"
MODULES = ("vfio_pci", "nouveau", "qat", "edu")
PARAMETERS = {"vfio_pci": {"disable_vga": "N"}, "qat": {"rings": "4"}}
NATIVE_VF = "native_vf"
VERSION = "1.0"

DRIVERS: tuple[dict[str, Any], ...] = (
    {
        "name": "edu",
        "device_type": "PROCESSING",
        "match": [{"vendor_id": "1234"}],
        "kernel_module": "edu",
        "version": VERSION,
        "dkms": {"path": "edu-1.0", "package": "edu"},
    },
    {
        "name": "qat",
        "device_type": "CRYPTO",
        "match": [{"vendor_id": "8086", "product_id": ["4940"]}],
        "kernel_module": "qat",
        "roles": {"install": "a.b.install", "uninstall": "a.b.uninstall"},
    },
    {"name": "generic", "device_type": "GENERIC"},
)

CATALOGUE = tuple(
    Located(
        Driver.model_validate(
            {
                "api_version": "cyborg/v1",
                "kind": "Driver",
                "metadata": {"name": spec["name"]},
                "spec": {key: value for key, value in spec.items() if key != "name"},
            },
            strict=False,
        ),
        f"{spec['name']}.yml",
    )
    for spec in DRIVERS
)

UNREADABLE = {"unknown": "permission denied"}
HOLDERS = [{"kind": "process", "name": "qemu", "pid": 4711}]
PROTECTED = [{"reason": "default_route", "via": "bond0"}]


def vf_address(pf: str, index: int) -> str:
    """Return where a generated VF is."""
    return f"{pf[:-4]}{1 + index // 8:02x}.{index % 8}"


def rarely(draw: st.DrawFn) -> Callable[..., Any]:
    """Return a function that gives its first argument most of the time, and one of the others that are there else."""

    def vary(value: Any, *others: Any) -> Any:
        there = [other for other in others if other]
        return draw(st.sampled_from([value] * 9 + there)) if there else value

    return vary


@st.composite
def pfs(draw: st.DrawFn, address: str, *, unknowns: bool, busy: bool) -> list[dict[str, Any]]:
    """Return a PF and its VFs."""
    vary = rarely(draw)
    total = draw(st.sampled_from([None, 4, 8]))
    count = draw(st.integers(0, min(total, 4))) if total else 0
    group = draw(st.sampled_from([None, "vfio-pci", "none"]))
    vfs = []
    for index in range(count):
        driver = draw(st.sampled_from([None, group]))
        vfs.append(
            {
                "address": vf_address(address, index),
                "vendor_id": "8086",
                "product_id": "4941",
                "class_id": "0b4000",
                "driver": vary(NATIVE_VF if driver is None else _bound(driver), unknowns and UNREADABLE),
                "driver_override": driver,
                "physfn": address,
                "vf_index": index,
                "iommu_group": 100 + index,
                "holders": vary([], busy and HOLDERS),
            }
        )
    pf = {
        "address": address,
        "vendor_id": "8086",
        "product_id": vary(draw(st.sampled_from(["4940", "4942"])), unknowns and UNREADABLE),
        "class_id": "0b4000",
        "driver": draw(st.sampled_from(["qat", "qat", "qat", None])) if not count else "qat",
        "serial": vary(f"SN-{address}", unknowns and UNREADABLE),
        "iommu_group": 1,
        "total_vfs": vary(total, unknowns and UNREADABLE),
        "num_vfs": vary(None if total is None else count, unknowns and UNREADABLE),
        "vfs": [vf["address"] for vf in vfs],
        "protected": vary([], busy and PROTECTED, unknowns and UNREADABLE),
        "boot_num_vfs": vary(None, unknowns and 2, unknowns and UNREADABLE),
        "boot_vf_drivers": vary([], unknowns and [{"vfs": "0-1", "driver": "vfio-pci"}]),
    }
    return [pf, *vfs]


def _bound(driver: str) -> str | None:
    return None if driver == "none" else driver


@st.composite
def plain(draw: st.DrawFn, address: str, *, unknowns: bool, busy: bool) -> dict[str, Any]:
    """Return a function without VFs, with its native driver or given to another on purpose."""
    vary = rarely(draw)
    override = draw(st.sampled_from([None, None, "vfio-pci", "none"]))
    native = draw(st.sampled_from(["native", None]))
    return {
        "address": address,
        "vendor_id": vary(draw(st.sampled_from(["10de", "1234"])), unknowns and UNREADABLE),
        "product_id": "1eb8",
        "class_id": vary("030000", unknowns and UNREADABLE),
        "driver": vary(native if override is None else _bound(override), unknowns and UNREADABLE),
        "driver_override": override,
        "iommu_group": 20 if address < PLAIN[-1] else 21,
        "holders": vary([], busy and HOLDERS, unknowns and UNREADABLE),
        "protected": vary([], busy and PROTECTED),
        "boot_driver": vary(None, unknowns and "vfio-pci", unknowns and UNREADABLE),
    }


@st.composite
def modules(draw: st.DrawFn, *, unknowns: bool, busy: bool) -> dict[str, Any]:
    """Return the facts of modules and of modprobe's configuration."""
    vary = rarely(draw)
    found = []
    for name in MODULES:
        loaded = draw(st.booleans())
        found.append(
            {
                "name": name,
                "loaded": vary(loaded, unknowns and UNREADABLE),
                "builtin": vary(False, unknowns and not loaded and UNREADABLE),  # noqa: FBT003 - a fact
                "refcount": 0,
                "holders": vary([], busy and loaded and HOLDERS),
                "path": f"{name}.ko" if loaded or name != "edu" else draw(st.sampled_from([None, "edu.ko"])),
                "parameters": PARAMETERS.get(name, {}) if loaded else {},
                "parameters_unknown": vary(None, unknowns and "parameters: I/O error"),
            }
        )
    kept_out = [one["name"] for one in found if one["loaded"] is not True and draw(st.booleans())]
    on = [one["name"] for one in found if one["loaded"] is True and draw(st.booleans())]
    return {
        "modules": found,
        "dkms_present": True,
        "blacklisted": vary(kept_out, unknowns and UNREADABLE),
        "load": vary(on, unknowns and UNREADABLE),
        "options": draw(st.sampled_from([{}, {"qat": {"rings": "4"}}, {"vfio-pci": {"disable_vga": "0"}}])),
    }


@st.composite
def kernels(draw: st.DrawFn, *, unknowns: bool) -> dict[str, Any]:
    """Return the facts of the kernel and its arguments."""
    vary = rarely(draw)
    words = draw(st.lists(st.sampled_from(["iommu=pt", "intel_iommu=on", "console=tty0", "console=ttyS0", "nosmt"])))
    at_boot = draw(st.sampled_from([words, words, ["quiet", *words], words[:1]]))
    return {
        "release": vary("6.1.0", unknowns and UNREADABLE),
        "architecture": "x86_64",
        "boot_id": vary("boot-0", unknowns and UNREADABLE),
        "args_configured": at_boot,
        "args_next_boot": vary(at_boot, unknowns and UNREADABLE),
        "args_running": vary(words, unknowns and UNREADABLE),
        "kernels": [{"release": "6.1.0", "headers": True, "initramfs": True, "next_boot": True}],
        "iommu_enabled": draw(st.sampled_from([True, True, True, False, *([UNREADABLE] if unknowns else [])])),
        "os_family": "debian",
    }


@st.composite
def hosts(draw: st.DrawFn, *, unknowns: bool = False, busy: bool = False) -> Facts:
    """Return the facts of a host that nobody owns anything of."""
    devices: list[dict[str, Any]] = [
        {"address": BRIDGE, "vendor_id": "8086", "product_id": "2030", "class_id": "060400", "driver": "pcieport"}
    ]
    for address in PFS:
        if draw(st.booleans()):
            devices += draw(pfs(address, unknowns=unknowns, busy=busy))
    for address in PLAIN:
        if draw(st.booleans()):
            devices.append(draw(plain(address, unknowns=unknowns, busy=busy)))
    by_group: dict[Any, list[str]] = {}
    for device in devices:
        by_group.setdefault(device.get("iommu_group", 0), []).append(device["address"])
    for device in devices:
        if device["address"] in PLAIN:
            device["iommu_members"] = [*by_group[device["iommu_group"]], BRIDGE]
    document = {
        "facts_version": 1,
        "hostname": "compute-1",
        "devices": devices,
        "drivers": draw(modules(unknowns=unknowns, busy=busy)),
        "kernel": draw(kernels(unknowns=unknowns)),
        "fingerprint": "f",
    }
    return msgspec.convert(document, Facts)


# ------------------------------------------------------------------------------------------------------------ policies
DEVICES = st.sampled_from(
    [
        {"vendor_id": "8086"},
        {"product_id": ["4940"]},
        {"vendor_id": ["10de", "1234"]},
        {"addresses": [PFS[0], PLAIN[0]]},
        {"serials": [f"SN-{PFS[1]}"]},
        {"device_type": "GPU"},
    ]
)
VF_DRIVERS = st.sampled_from(["vfio-pci", "none", "native_vf"])
SRIOV = st.one_of(
    st.fixed_dictionaries({"num_vfs": st.integers(0, 5)}),
    st.fixed_dictionaries({"num_vfs": st.integers(1, 4), "vf_driver": VF_DRIVERS}),
    st.fixed_dictionaries({"vf_driver": VF_DRIVERS}),
    st.builds(
        lambda count, first, driver, rest: {
            "num_vfs": count,
            "groups": [{"vfs": f"{min(first, count - 1)}-{count - 1}", "driver": driver}],
            **rest,
        },
        st.integers(1, 4),
        st.integers(0, 3),
        VF_DRIVERS,
        st.sampled_from([{}, {"vf_driver": "vfio-pci"}]),
    ),
)
BINDING = st.fixed_dictionaries({"driver": st.sampled_from(["vfio-pci", "none"])})
ARGUMENTS = st.dictionaries(
    st.sampled_from(["iommu", "intel_iommu", "nosmt", "console"]),
    st.sampled_from(["on", "pt", True, ["tty0", "ttyS0"]]),
    max_size=2,
)
STATES = st.lists(st.sampled_from(MODULES), unique=True, max_size=3).flatmap(
    lambda names: st.integers(0, len(names)).map(lambda cut: {"load": names[:cut], "blacklist": names[cut:]})
)
OPTIONS = st.sampled_from([{}, {"qat": {"rings": 8}}, {"vfio-pci": {"disable_vga": "y"}}])
DRIVER = st.fixed_dictionaries(
    {"name": st.sampled_from(["edu", "qat", "generic"]), "state": st.sampled_from(["present", "absent"])}
)

FEATURES: dict[str, st.SearchStrategy[Any]] = {
    "sriov": SRIOV,
    "binding": BINDING,
    "kernel_args": ARGUMENTS,
    "kernel_modules": st.builds(lambda states, options: {**states, "options": options}, STATES, OPTIONS),
    "driver": DRIVER,
    "state": st.sampled_from(["ready", "inactive", "maintenance"]),
}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Return what one policy declares."""
    chosen = draw(st.lists(st.sampled_from(sorted(FEATURES)), unique=True, min_size=1, max_size=3))
    if "sriov" in chosen and "binding" in chosen:
        chosen.remove("binding")
    spec: dict[str, Any] = {name: draw(FEATURES[name]) for name in chosen}
    if spec.get("state") == "ready" and spec.get("driver", {}).get("state") == "absent":
        del spec["driver"]
    if not {"state", "sriov", "binding"}.isdisjoint(chosen) or draw(st.booleans()):
        spec["device_selector"] = draw(DEVICES)
    return spec


def policy(name: str, spec: dict[str, Any]) -> Located[AcceleratorPolicy]:
    """Return *spec* as a policy for all hosts, where it names none."""
    document = {
        "api_version": "cyborg/v1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": name},
        "spec": {"host_selector": {"groups": ["all"]}, **spec},
    }
    return Located(AcceleratorPolicy.model_validate(document, strict=False), f"{name}.yml", {"spec": 4})


@st.composite
def declarations(draw: st.DrawFn, *, agreeing: bool = False) -> Declared:
    """Return up to four policies and the catalogue; *agreeing* ones have priorities of their own, and act."""
    found = []
    for number, spec in enumerate(draw(st.lists(specs(), max_size=4))):
        terms = (
            {"priority": 10 * number}
            if agreeing
            else {
                "priority": draw(st.sampled_from([50, 50, 60])),
                "mode": draw(st.sampled_from(["enforce", "enforce", "enforce", "warn", "disabled"])),
                "suspend": draw(st.sampled_from([False, False, False, True])),
            }
        )
        found.append(policy(f"policy-{number}", {**spec, **terms}))
    return Declared(policies=tuple(found), drivers=CATALOGUE)


#: Declared of nobody: what there is for hosts whose policies were all taken away but one.
NOTHING = Declared(policies=(policy("other", {"host_selector": {"names": ["elsewhere"]}}),), drivers=CATALOGUE)


def range_of(count: int) -> str:
    """Return the range of all of *count* VFs."""
    return next(text for text, _ in ranges.compress(dict.fromkeys(range(count), 0)))
