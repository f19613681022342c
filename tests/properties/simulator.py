# SPDX-License-Identifier: Apache-2.0
"""A host that obeys: what a plan, as it travels, makes of a host's facts. The properties hold the core to this model.

It does what the collection's modules promise and nothing else; what these would refuse is an error here, so that a plan
that should not have been made shows. A reboot changes the kernel's arguments and modules; devices persist. Pure.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from cyborg_reconciler.core import ranges
from cyborg_reconciler.documents.facts import Device, Facts, Module, OwnedField, Ownership, Unknown, VfDriver
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, Own, RoleSegment, Step
from tests.properties.fleet import NATIVE_VF, PARAMETERS, VERSION, vf_address

replace = msgspec.structs.replace
BRIDGE_CLASS = "0604"


@dataclass
class Host:
    """A host: its facts as it reports them, and what stands behind them.

    Attributes:
        first: the facts before anybody came.
        ours: the kernel arguments that were set here, over the operator's own.
        reboots: how often it was rebooted.
    """

    facts: Facts
    first: Facts = field(init=False)
    ours: dict[str, Any] = field(default_factory=dict)
    reboots: int = 0

    def __post_init__(self) -> None:
        self.first = self.facts

    # ------------------------------------------------------------------------------------------------------------ plan
    def apply(self, plan: HostPlan, controller_id: str) -> None:
        """Walk the plan's segments."""
        for segment in plan.segments:
            if isinstance(segment, ActionsSegment):
                for step in segment.steps:
                    self._enter(step.own, controller_id)
                    if step.module:
                        getattr(self, f"_{step.module}")(step)
                    self._strike(step.release)
            elif isinstance(segment, RoleSegment):
                self._enter(segment.own, controller_id)
                self._role(segment)
                self._strike(segment.release)
            else:
                self._reboot()

    def _enter(self, entries: list[Own], controller_id: str) -> None:
        record = self.facts.ownership or Ownership()
        known = {tuple(one.path) for one in record.fields}
        new = [OwnedField(path=one.path, before=one.before, set=one.set, device=one.device) for one in entries]
        fields = [*record.fields, *(one for one in new if tuple(one.path) not in known)]
        self.facts = replace(self.facts, ownership=Ownership(controller_id=controller_id, fields=fields))

    def _strike(self, paths: list[list[str]]) -> None:
        record = self.facts.ownership or Ownership()
        fields = [one for one in record.fields if one.path not in paths]
        self.facts = replace(self.facts, ownership=replace(record, fields=fields))

    # --------------------------------------------------------------------------------------------------------- devices
    def device(self, address: str) -> Device:
        """Return the function at *address*."""
        return next(one for one in self.facts.devices if one.address == address)

    def _put(self, address: str, **changes: Any) -> None:
        devices = [replace(one, **changes) if one.address == address else one for one in self.facts.devices]
        self.facts = replace(self.facts, devices=devices)

    def _sriov_vfs(self, step: Step) -> None:
        args, address = step.args, step.args["address"]
        pf = self.device(address)
        present = args["state"] == "present"
        count = args.get("num_vfs", len(pf.vfs)) if present else 0
        if count != len(pf.vfs):
            self._recount(pf, count)
        drivers = self._vf_drivers(args, count) if present else {}
        for index, driver in drivers.items():
            self._bind(vf_address(address, index), driver)
        kept = present and args.get("persist", True) and count > 0
        groups = [VfDriver(vfs=text, driver=driver) for text, driver in ranges.compress(drivers)]
        self._put(address, boot_num_vfs=count if kept else None, boot_vf_drivers=groups if kept else [])

    def _vf_drivers(self, args: dict[str, Any], count: int) -> dict[int, str]:
        drivers = dict.fromkeys(range(count), args["vf_driver"]) if "vf_driver" in args else {}
        for group in args.get("groups", []):
            for index in ranges.expand(group["vfs"], count):
                assert index < count, "a group names a VF that is not there"
                drivers[index] = group["driver"]
        return drivers

    def _recount(self, pf: Device, count: int) -> None:
        assert not isinstance(pf.total_vfs, int) or count <= pf.total_vfs, "more VFs than the device supports"
        assert pf.driver is not None or not count, "nobody makes VFs"
        assert not any(self.device(vf).holders for vf in pf.vfs), "a VF was taken away that is in use"
        others = [one for one in self.facts.devices if one.physfn != pf.address]
        addresses = [vf_address(pf.address, index) for index in range(count)]
        made = [
            Device(
                address=address,
                vendor_id="8086",
                product_id="4941",
                class_id="0b4000",
                driver=NATIVE_VF,
                physfn=pf.address,
                vf_index=index,
                iommu_group=100 + index,
            )
            for index, address in enumerate(addresses)
        ]
        self.facts = replace(self.facts, devices=[*others, *made])
        self._put(pf.address, num_vfs=count, vfs=addresses)

    def _bind(self, address: str, driver: str) -> None:
        bound = None if driver == "none" else driver
        device = self.device(address)
        if device.driver == bound:
            return
        assert not device.holders, "a function was rebound that is in use"
        assert not device.protected, "a function was rebound that is protected"
        self._put(address, driver=bound, driver_override=driver)

    def _device_binding(self, step: Step) -> None:
        address = step.args["address"]
        device = self.device(address)
        if step.args["state"] == "present":
            driver = step.args["driver"]
            whole = driver == "vfio-pci" and not step.args.get("alone")
            for member in self._group(device) if whole else [address]:
                if member == address or not self._is_kept_bare(member):
                    self._bind(member, driver)
            self._put(address, boot_driver=driver if step.args.get("persist", True) else None)
            return
        taken = [m for m in self._group(device) if self.device(m).driver_override == "vfio-pci" and m != address]
        along = [m for m in taken if self.device(m).boot_driver is None and self._was(m).driver_override is None]
        for member in [address, *(along if device.driver_override == "vfio-pci" else [])]:
            if self.device(member).driver_override is not None:
                self._put(member, driver=self._native(member), driver_override=None)
        self._put(address, boot_driver=None)

    def _group(self, device: Device) -> list[str]:
        there = {one.address: one for one in self.facts.devices}
        members = [address for address in device.iommu_members if address in there]
        return [one for one in members if not there[one].class_id.startswith(BRIDGE_CLASS)] or [device.address]

    def _is_kept_bare(self, address: str) -> bool:
        device = self.device(address)
        return device.driver is None and device.driver_override is not None

    def _was(self, address: str) -> Device:
        return next((one for one in self.first.devices if one.address == address), self.device(address))

    def _native(self, address: str) -> str | None:
        """Return the driver that takes the function by itself."""
        device = self._was(address)
        if device.physfn is not None:
            return NATIVE_VF
        return device.driver if device.driver_override is None and isinstance(device.driver, str) else None

    # -------------------------------------------------------------------------------------------------- modules, kernel
    def _module(self, name: str) -> Module:
        return next(one for one in self.facts.drivers.modules if one.name == name)

    def _set_module(self, name: str, **changes: Any) -> None:
        drivers = self.facts.drivers
        found = [replace(one, **changes) if one.name == name else one for one in drivers.modules]
        self.facts = replace(self.facts, drivers=replace(drivers, modules=found))

    def _load(self, name: str) -> None:
        options = {
            option: value for key, all_ in self._options().items() if key == name for option, value in all_.items()
        }
        shown = {
            **PARAMETERS.get(name, {}),
            **{key: one for key, one in options.items() if key in PARAMETERS.get(name, {})},
        }
        self._set_module(name, loaded=True, parameters=shown)

    def _unload(self, name: str) -> None:
        assert not self._module(name).holders, "a module was unloaded that is in use"
        self._set_module(name, loaded=False, parameters={})

    def _options(self) -> dict[str, dict[str, str]]:
        return {key.replace("-", "_"): dict(value) for key, value in self.facts.drivers.options.items()}

    def _kernel_module(self, step: Step) -> None:
        args, drivers, name = step.args, self.facts.drivers, step.args["name"]
        options = self._options()
        for option, value in args.get("options", {}).items():
            options.setdefault(name, {}).pop(option, None)
            if value is not None:
                options[name][option] = value
        lists = {"load": known(drivers.load), "blacklisted": known(drivers.blacklisted)}
        for key, wanted in (("load", args.get("boot")), ("blacklisted", args.get("blacklisted"))):
            if wanted is not None:
                lists[key] = [one for one in lists[key] if one != name] + ([name] if wanted else [])
        found = {key: value for key, value in options.items() if value}
        self.facts = replace(self.facts, drivers=replace(drivers, options=found, **lists))
        if args.get("state") == "loaded":
            assert self._module(name).path, "a module was loaded that is not there"
            self._load(name)
        elif args.get("state") == "unloaded":
            self._unload(name)

    def _kernel_args(self, step: Step) -> None:
        for name in step.args["absent"]:
            self.ours.pop(name, None)
        for name, value in step.args["args"].items():
            values = value if isinstance(value, list) else [value]
            theirs = [one for key, one in _pairs(known(self.first.kernel.args_configured)) if key == name]
            if name in self.ours or (theirs if isinstance(value, list) else theirs[-1:]) != values:
                self.ours[name] = value
        words = [_word(*pair) for pair in _pairs(known(self.first.kernel.args_configured)) if pair[0] not in self.ours]
        for name, value in self.ours.items():
            words += [_word(name, one) for one in (value if isinstance(value, list) else [value])]
        self.facts = replace(self.facts, kernel=replace(self.facts.kernel, args_configured=words, args_next_boot=words))

    def _role(self, segment: RoleSegment) -> None:
        name, own_driver = segment.args["module"], segment.args["name"]
        vendor = {"edu": "1234", "qat": "8086"}[own_driver]
        if segment.args["state"] == "present":
            self._set_module(name, path=f"{name}.ko", disk_version=VERSION if "source" in segment.args else None)
            self._load(name)
            for device in self.facts.devices:
                free = device.driver is None and device.driver_override is None
                if free and device.vendor_id == vendor and (own_driver == "edu" or device.product_id == "4940"):
                    self._put(device.address, driver=name)
            return
        for device in self.facts.devices:
            if device.driver == name:
                self._put(device.address, driver=None)
        self._unload(name)
        if "source" in segment.args:
            self._set_module(name, path=None, disk_version=None)

    def _reboot(self) -> None:
        self.reboots += 1
        kernel = self.facts.kernel
        running = kernel.args_next_boot
        self.facts = replace(self.facts, kernel=replace(kernel, boot_id=f"boot-{self.reboots}", args_running=running))
        drivers = self.facts.drivers
        for module in drivers.modules:
            by_itself = next(one for one in self.first.drivers.modules if one.name == module.name).loaded
            if module.name in known(drivers.load) or (
                by_itself and module.name not in known(drivers.blacklisted) and module.path
            ):
                self._set_module(module.name, holders=[])
                self._load(module.name)
            else:
                self._set_module(module.name, loaded=False, parameters={}, holders=[], refcount=0)


def known(words: list[str] | Unknown) -> list[str]:
    """Return what must be known here."""
    assert isinstance(words, list)
    return words


def _pairs(words: list[str]) -> list[tuple[str, str | bool]]:
    split = (word.partition("=") for word in words)
    return [(name, value if equals else True) for name, equals, value in split]


def _word(name: str, value: str | bool) -> str:  # noqa: FBT001 - a bare word is True
    return name if value is True else f"{name}={value}"
