# SPDX-License-Identifier: Apache-2.0
"""Drivers of the catalogue: installed by their role, judged by what the host then shows. Pure.

Fields: ``<driver>.state``: ``present`` (on disk, loaded, its devices bound), ``unbound``, ``not loaded``, ABSENT;
``<driver>.version``; ``<driver>.next_kernel``: built for the kernel of the next boot.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import Field, Leaf, LeafKey, LeafValue, Setting, own, release, wait
from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    Action,
    Change,
    Disruption,
    FieldPath,
    Observed,
    Reason,
    Unknown,
    Value,
    Wait,
)
from cyborg_reconciler.core.subject import Subject, describe_holders, matches, module_name
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.plan import RoleSegment, Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "driver"
SCOPE: Final = "host"


def declare(spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
    """Return the driver's state and, where it is given, its version."""
    if spec.driver is not None:
        yield (NAME, spec.driver.name, "state"), spec.driver.state
        if spec.driver.version is not None:
            yield (NAME, spec.driver.name, "version"), spec.driver.version


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return state and version of each driver; what is absent has no version."""
    for key, (value, origin) in leaves.items():
        if key[0] != NAME:
            continue
        if key[2] == "state":
            yield Field(key, ABSENT if value == "absent" else value, origin)
            if value == "present":
                yield Field((NAME, key[1], "next_kernel"), value=True, origin=origin)
        elif leaves[NAME, key[1], "state"].value == "present":
            yield Field(key, value, origin)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return a driver's state or version as the host shows it, whatever was said when it was installed."""
    spec = subject.catalogue.get(path[2])
    if spec is None:
        return Unknown(f"the catalogue has no driver {path[2]}")
    if spec.kernel_module is None:
        return desired
    module = subject.module(spec.kernel_module)
    if module is None:
        return Unknown(f"the facts do not speak of module {spec.kernel_module}")
    match path[3]:
        case "state":
            return _state(spec, module, subject)
        case "version":
            return _version(module)
        case "next_kernel":
            return _next_kernel(spec, desired, subject)
        case _:
            return Unknown(f"no field is called {path[3]}")


def _state(spec: DriverDocSpec, module: reported.Module, subject: Subject) -> Observed:
    if isinstance(module.path, reported.Unknown):
        return Unknown(module.path.unknown)
    if module.path is None and not module.builtin:
        return ABSENT
    if not module.loaded and not module.builtin:
        return "not loaded"
    unbound = [device for device in _devices(spec, subject) if not _bound(device, module)]
    return "unbound" if unbound else "present"


def _devices(spec: DriverDocSpec, subject: Subject) -> list[reported.Device]:
    """Return the devices that the driver is for and that nothing else was bound to on purpose."""
    return [
        device
        for device in subject.facts.devices
        if matches(device, spec.match) and device.driver_override is None and device.driver != "vfio-pci"
    ]


def _bound(device: reported.Device, module: reported.Module) -> bool:
    drivers = {module_name(name) for name in (device.driver, device.function_driver) if isinstance(name, str)}
    return device.address in module.devices or module_name(module.name) in drivers


def _version(module: reported.Module) -> Observed:
    """Return the version when what is loaded and what lies on disk agree, else both in words."""
    for version in (module.loaded_version, module.disk_version):
        if isinstance(version, reported.Unknown):
            return Unknown(version.unknown)
    if module.disk_version is None:
        return ABSENT
    if module.loaded and (module.loaded_version, module.loaded_srcversion) != (
        module.disk_version,
        module.disk_srcversion,
    ):
        return f"{module.loaded_version} loaded, {module.disk_version} on disk"
    return str(module.disk_version)


def _next_kernel(spec: DriverDocSpec, desired: Value, subject: Subject) -> Observed:
    """Return whether a DKMS driver is built for the kernel of the next boot; an in-tree one comes with it."""
    facts = subject.facts
    if spec.dkms is None or isinstance(facts.kernel.kernels, reported.Unknown):
        return desired
    following = [kernel.release for kernel in facts.kernel.kernels if kernel.next_boot is True]
    if isinstance(facts.drivers.dkms, reported.Unknown):
        return Unknown(facts.drivers.dkms.unknown)
    built = {
        build.kernel for build in facts.drivers.dkms if build.name == spec.dkms.package and build.state == "installed"
    }
    missing = [release for release in following if release != facts.kernel.release and release not in built]
    return ABSENT if missing else desired


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return one role a driver, or why it waits."""
    by_driver: dict[str, list[Change]] = {}
    for change in changes:
        by_driver.setdefault(change.path[2], []).append(change)
    for name, ours in by_driver.items():
        yield _act_on(name, ours, setting)


def _act_on(name: str, changes: list[Change], setting: Setting) -> Action | Wait:
    spec = setting.subject.catalogue[name]
    version = setting.desired.get((HOST, NAME, name, "version"), spec.version)
    remove = setting.desired.get((HOST, NAME, name, "state"), "present") is ABSENT
    args: dict[str, object] = {
        "name": name,
        "state": "absent" if remove else "present",
        "version": version if isinstance(version, str) else None,
        "module": spec.kernel_module,
    }
    if spec.dkms is not None:
        args |= {"source": spec.dkms.path, "package": spec.dkms.package}
    call: Step | RoleSegment | None = None
    if not remove and all(not change.declared_by.policy for change in changes):
        # It was there before, in whatever state; what is no longer declared is not taken further.
        call = Step(id=f"{NAME} {name}", module="", args={}, release=release(changes))
    elif spec.roles is not None:
        role = spec.roles.uninstall if remove else spec.roles.install
        call = RoleSegment(id=f"{NAME} {name}", role=role, args=args, own=own(changes), release=release(changes))
    reloads = any(change.path[3] == "version" and change.observed is not ABSENT for change in changes) or remove
    disruption = Disruption.MODULE_RELOAD if reloads else Disruption.NONE
    reason = "; ".join(f"{change.field} is {change.observed}" for change in changes)
    action = Action(HOST, NAME, tuple(changes), disruption, reason, call, setting.drift)
    return _obstacle(action, spec, setting.subject) or action


def _obstacle(action: Action, spec: DriverDocSpec, subject: Subject) -> Wait | None:
    """Return why the driver cannot be installed or removed now; None when it can."""
    kernel, drivers = subject.facts.kernel, subject.facts.drivers
    if action.call is None:
        message = f"the driver has no role that installs {spec.kernel_module}, and this kernel does not have it"
        return wait(Reason.KERNEL_UNSUPPORTED, message, action)
    module = subject.module(spec.kernel_module or "")
    if action.disruption is Disruption.MODULE_RELOAD and module is not None and module.loaded:
        if module.protected:
            return wait(Reason.PROTECTED_DEVICE, f"{module.name} drives a protected device", action)
        if isinstance(module.holders, reported.Unknown) or module.holders:
            who = describe_holders(module.holders) if isinstance(module.holders, list) else module.holders.unknown
            return wait(Reason.MODULE_IN_USE, f"{module.name} is held by {who}", action)
    for name in spec.conflicts:
        rival = subject.module(name)
        if rival is not None and rival.loaded:
            return wait(
                Reason.MANUAL_ACTION_REQUIRED, f"{name} is loaded: declare kernel_modules.blacklist: [{name}]", action
            )
    if spec.dkms is None or action.changes[0].desired is ABSENT:
        return None
    if kernel.secure_boot is True:
        message = "Secure Boot is on, and a module built on the host is not signed: enrol a key for DKMS (mokutil), or turn it off"
        return wait(Reason.SECURE_BOOT_UNSIGNED, message, action)
    if not drivers.dkms_present:
        return wait(
            Reason.MANUAL_ACTION_REQUIRED, "dkms is not installed on the host: install the package dkms", action
        )
    if isinstance(kernel.kernels, list):
        bare = [
            k.release for k in kernel.kernels if (k.release == kernel.release or k.next_boot is True) and not k.headers
        ]
        if bare:
            package = "kernel-devel" if kernel.os_family == "redhat" else "linux-headers"
            message = f"no headers for kernel {', '.join(bare)}: install {package}-{bare[0]}"
            return wait(Reason.KERNEL_UNSUPPORTED, message, action)
    return None
