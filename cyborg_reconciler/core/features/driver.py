# SPDX-License-Identifier: Apache-2.0
"""Drivers of the catalogue: installed by their role, judged by what the host then shows. Pure.

Fields: ``<driver>.state``: ``present`` (on disk, loaded, its devices bound), ``unbound``, ``not loaded``, ABSENT;
``<driver>.version``; ``<driver>.next_kernel``: built for the kernel of the next boot. What a kernel brings along is
ABSENT, to those who want it so, when it is not loaded: nobody takes its file away.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import (
    GONE,
    NOT_LOADED,
    Field,
    Leaf,
    LeafKey,
    RestoreError,
    Said,
    Setting,
    Trouble,
    module_conflict,
    module_protection,
    module_use,
    own,
    reason_of,
    release,
    signature_trouble,
    wait,
)
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
from cyborg_reconciler.core.subject import (
    VFIO,
    Subject,
    as_observed,
    driver_proper,
    lacks_ids,
    matches,
    module_name,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.plan import RoleSegment, Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "driver"
SCOPE: Final = "host"

PRESENT: Final = "present"
UNBOUND: Final = "unbound"


def declare(spec: PolicySpec) -> Iterable[Said]:
    """Return the driver's state and, where it is given, its version."""
    if spec.driver is not None:
        name = spec.driver.name
        yield Said((NAME, name, "state"), spec.driver.state, "driver")
        if spec.driver.version is not None:
            yield Said((NAME, name, "version"), spec.driver.version, "driver.version")


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return state and version of each driver; what is absent has no version."""
    for key, (value, origin) in leaves.items():
        if key[0] != NAME:
            continue
        if key[2] == "state":
            yield Field(key, ABSENT if value == "absent" else value, origin)
            if value == PRESENT:
                yield Field((NAME, key[1], "next_kernel"), value=True, origin=origin)
        elif leaves[NAME, key[1], "state"].value == PRESENT:
            yield Field(key, value, origin)


def restore(
    path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
) -> Iterable[tuple[FieldPath, Value]]:
    """Return the owned field.

    Raises:
        RestoreError: the catalogue does not know any more how the driver is taken away.
    """
    del declared  # each of these is said in one way only
    match path[2:]:
        case (name, "state") if name not in subject.catalogue:
            raise RestoreError(f"put the Driver document of {name} back until the driver is uninstalled")
        case (name, "state" | "version" | "next_kernel") if name in subject.catalogue:
            yield path, subject.before(path)


# ------------------------------------------------------------------------------------------------------------- observe
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
    if path[3] == "state":
        state = _state(spec, module, subject)
        return ABSENT if desired is ABSENT and state == NOT_LOADED and spec.dkms is None else state
    if path[3] == "version":
        return _version(spec, module, subject)
    return _next_kernel(spec, desired, subject)


def _state(spec: DriverDocSpec, module: reported.Module, subject: Subject) -> Observed:
    for fact in (module.path, module.loaded, module.builtin):
        if isinstance(fact, reported.Unknown):
            return Unknown(fact.unknown)
    if module.path is None and not module.builtin and not module.loaded:
        return ABSENT
    if not module.loaded and not module.builtin:
        return NOT_LOADED
    for device in _devices(spec, subject):
        if isinstance(device.driver, reported.Unknown):
            return Unknown(f"{device.address}: {device.driver.unknown}")
        if not is_bound(device, module):
            return UNBOUND
    return _doubt(spec, subject) or PRESENT


def _doubt(spec: DriverDocSpec, subject: Subject) -> Unknown | None:
    """Return which device may be one of the driver's, since its ids could not be read."""
    perhaps = (device for device in subject.facts.devices if matches(device, spec.match, perhaps=True))
    words = (
        f"{one.address} may be one of its devices: {lacks_ids(one)}"
        for one in perhaps
        if lacks_ids(one) and one.address not in subject.aside
    )
    return next(map(Unknown, words), None)


def _devices(spec: DriverDocSpec, subject: Subject) -> list[reported.Device]:
    """Return the devices that the driver is set up for and that nothing else was bound to on purpose."""
    return [
        device
        for device in subject.facts.devices
        if matches(device, spec.match)
        and device.driver_override is None
        and device.driver != VFIO
        and device.address not in subject.aside
    ]


def is_bound(device: reported.Device, module: reported.Module) -> bool:
    """Return whether *module* drives *device*, by its own word or by the device's."""
    drivers = {module_name(name) for name in (device.driver, device.function_driver) if isinstance(name, str)}
    return device.address in module.devices or module_name(module.name) in drivers


def _version(spec: DriverDocSpec, module: reported.Module, subject: Subject) -> Observed:
    """Return the version when what is loaded, on disk and installed agree, else all of them in words."""
    on_disk, loaded = module.disk_version, module.loaded_version
    for said in (on_disk, loaded, module.disk_srcversion, module.loaded_srcversion, module.loaded):
        if isinstance(said, reported.Unknown):
            return Unknown(said.unknown)
    installed = _installed(spec, subject)
    if isinstance(installed, Unknown):
        return installed
    version = on_disk or installed
    if version is None:
        return ABSENT
    if module.loaded and (loaded, module.loaded_srcversion) != (on_disk, module.disk_srcversion):
        return f"{loaded or 'another build'} loaded, {version} on disk"
    if installed is not None and installed != version:
        return f"{version} on disk, {installed} installed by DKMS"
    return str(version)


def _installed(spec: DriverDocSpec, subject: Subject) -> str | Unknown | None:
    """Return the version that DKMS has installed for the running kernel; None when it has none, or is not asked."""
    if spec.dkms is None:
        return None
    release_, builds = subject.facts.kernel.release, _builds(spec.dkms.package, subject)
    if isinstance(release_, reported.Unknown):
        return Unknown(release_.unknown)
    if isinstance(builds, Unknown):
        return builds
    installed = (build for build in builds if build.state == "installed")
    return next((build.version for build in installed if build.kernel == release_), None)


def _builds(package: str, subject: Subject) -> Sequence[reported.DkmsBuild] | Unknown:
    """Return what DKMS has of *package*."""
    builds = subject.facts.drivers.dkms
    if isinstance(builds, reported.Unknown):
        return Unknown(builds.unknown)
    ours = [build for build in builds if build.name == package]
    unclear = (Unknown(build.state.unknown) for build in ours if isinstance(build.state, reported.Unknown))
    return next(unclear, ours)


def _next_kernel(spec: DriverDocSpec, desired: Value, subject: Subject) -> Observed:
    """Return whether a DKMS driver is built for the kernel of the next boot; an in-tree one comes with it."""
    if spec.dkms is None:
        return desired
    kernels, release_ = subject.facts.kernel.kernels, subject.facts.kernel.release
    if isinstance(kernels, reported.Unknown) or isinstance(release_, reported.Unknown):
        return as_observed(kernels if isinstance(kernels, reported.Unknown) else release_)
    builds = _builds(spec.dkms.package, subject)
    if isinstance(builds, Unknown):
        return builds
    built = {build.kernel for build in builds if build.state == "installed"}
    for kernel in kernels:
        if kernel.release in {release_, *built}:
            continue
        if isinstance(kernel.next_boot, reported.Unknown):
            return Unknown(f"whether {kernel.release} boots next: {kernel.next_boot.unknown}")
        if kernel.next_boot is True:
            return ABSENT
    return desired


# ----------------------------------------------------------------------------------------------------------------- act
def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return one role a driver and, after one that installs, the role that verifies it; or why it waits."""
    by_driver: dict[str, list[Change]] = {}
    for change in changes:
        by_driver.setdefault(change.path[2], []).append(change)
    for name, ours in by_driver.items():
        result = _act_on(name, ours, setting)
        yield result
        roles = setting.subject.catalogue[name].roles if name in setting.subject.catalogue else None
        call = result.call if isinstance(result, Action) else None
        if isinstance(call, RoleSegment) and not _unloads(call) and roles is not None and roles.verify is not None:
            args = {**call.args, "state": "verified"}
            verify = RoleSegment(id=f"{call.id} verified", role=roles.verify, args=args)
            yield Action(HOST, NAME, (), Disruption.NONE, "the driver is installed", verify, setting.drift)


def _act_on(name: str, changes: list[Change], setting: Setting) -> Action | Wait:
    call = _call(name, changes, setting)
    unloads = _unloads(call)
    reloads = unloads or any(c.path[3] == "version" and c.observed is not ABSENT for c in changes)
    disruption = Disruption.MODULE_RELOAD if reloads else Disruption.NONE
    action = Action(HOST, NAME, tuple(changes), disruption, reason_of(changes), call, setting.drift)
    if isinstance(call, Step) and not call.module:
        return action
    spec = setting.subject.catalogue[name]
    module = setting.subject.module(spec.kernel_module or "")
    trouble = _role_trouble(action, spec, module) or _use_trouble(action, module, setting.subject)
    if trouble is None:
        trouble = module_conflict(module_name(spec.kernel_module or ""), setting, "" if unloads else f"driver {name}")
    if trouble is None and not unloads:
        trouble = _install_trouble(action, spec, setting.subject)
    return action if trouble is None else wait(trouble, action)


def _is_declared_loaded(spec: DriverDocSpec, setting: Setting) -> bool:
    path = (HOST, "kernel_modules", "load", module_name(spec.kernel_module or ""))
    return setting.desired.get(path) is True


def _unloads(call: RoleSegment | Step | None) -> bool:
    return call is not None and call.args.get("state") in {"absent", "unloaded"}


def _call(name: str, changes: list[Change], setting: Setting) -> RoleSegment | Step | None:
    """Return the role to run; None where there is none.

    What is no longer declared goes back: a driver that was merely not loaded is unloaded, one that is gone comes back,
    and of one that was unbound and is bound nothing but the record changes.
    """
    spec = setting.subject.catalogue[name]
    state = setting.desired.get((HOST, NAME, name, "state"), PRESENT)
    moved = next((change for change in changes if change.path[3] == "state"), None)
    released = release(changes, setting.subject)
    by_role = moved is not None and (state in {ABSENT, PRESENT} or (state == UNBOUND and moved.observed in GONE))
    if all(not change.declared_by.policy for change in changes) and not by_role:
        unload = moved is not None and state == NOT_LOADED and not _is_declared_loaded(spec, setting)
        args: dict[str, object] = {"name": spec.kernel_module, "state": "unloaded", "boot": False} if unload else {}
        return Step(id=f"{NAME} {name}", module="kernel_module" if unload else "", args=args, release=released)
    if spec.roles is None:
        return None
    version = setting.desired.get((HOST, NAME, name, "version"), spec.version)
    args = {
        "name": name,
        "state": "absent" if state is ABSENT else PRESENT,
        "version": version if isinstance(version, str) else None,
        "module": spec.kernel_module,
    }
    if spec.dkms is not None:
        args |= {"source": spec.dkms.path, "package": spec.dkms.package}
    role = spec.roles.uninstall if state is ABSENT else spec.roles.install
    return RoleSegment(id=f"{NAME} {name}", role=role, args=args, own=own(changes), release=released)


def _role_trouble(action: Action, spec: DriverDocSpec, module: reported.Module | None) -> Trouble | None:
    """Return why no role can do it."""
    name = spec.kernel_module
    if action.call is None:
        text = f"the driver has no role that installs or removes {name}: declare kernel_modules.load or .blacklist"
        return Reason.MANUAL_ACTION_REQUIRED, text
    if _unloads(action.call) and module is not None and module.builtin is True:
        return Reason.KERNEL_UNSUPPORTED, f"{name} is built into the kernel: it cannot be taken away"
    return None


def _use_trouble(action: Action, module: reported.Module | None, subject: Subject) -> Trouble | None:
    """Return who uses a module that would be unloaded, or a device of it."""
    if action.disruption is not Disruption.MODULE_RELOAD or module is None or module.loaded is False:
        return None
    return module_protection(module.name, subject) or module_use(module, subject)


def _install_trouble(action: Action, spec: DriverDocSpec, subject: Subject) -> Trouble | None:
    """Return why the driver cannot be installed or bound now."""
    module = subject.module(spec.kernel_module or "")
    for rival in map(subject.module, spec.conflicts):
        if rival is not None and isinstance(rival.loaded, reported.Unknown):
            return Reason.UNKNOWN, f"it could not be read whether {rival.name} is loaded: {rival.loaded.unknown}"
        if rival is not None and rival.loaded:
            text = f"{rival.name} is loaded: declare kernel_modules.blacklist: [{rival.name}]"
            return Reason.MANUAL_ACTION_REQUIRED, text
    trouble = None if module is None or module.path is None else _device_trouble(action, spec, module, subject)
    if trouble is not None:
        return trouble
    if spec.dkms is not None:
        return _dkms_trouble(action, spec, module, subject)
    return _load_trouble(action, module, subject.facts.kernel)


def _load_trouble(action: Action, module: reported.Module | None, kernel: reported.KernelFacts) -> Trouble | None:
    """Return why a module that the role is to load cannot be; whether one that it brings is signed, the role knows."""
    observed = next((change.observed for change in action.changes if change.path[3] == "state"), PRESENT)
    trouble = signature_trouble(module, kernel) if observed in GONE else None
    known_by_role = trouble is not None and observed is ABSENT and trouble[0] is not Reason.UNKNOWN
    return None if known_by_role else trouble


def _device_trouble(action: Action, spec: DriverDocSpec, module: reported.Module, subject: Subject) -> Trouble | None:
    """Return what a module that lies on disk cannot do."""
    if any(change.path[3] == "version" and change.observed is ABSENT for change in action.changes):
        return Reason.UNSUPPORTED, f"{module.name} tells no version: leave driver.version out"
    for device in _devices(spec, subject):
        driver = driver_proper(device)
        if isinstance(driver, str) and not is_bound(device, module):
            text = f"{device.address} is bound to {driver}: declare kernel_modules.blacklist or binding for it"
            return Reason.MANUAL_ACTION_REQUIRED, text
    return None


def _dkms_trouble(
    action: Action, spec: DriverDocSpec, module: reported.Module | None, subject: Subject
) -> Trouble | None:
    """Return why a module cannot be built and loaded on the host."""
    kernel, call = subject.facts.kernel, action.call
    version = call.args["version"] if isinstance(call, RoleSegment) else spec.version
    if version != spec.version:
        text = f"version {version} is declared, and the catalogue's source is {spec.version}: make the two agree"
        return Reason.MANUAL_ACTION_REQUIRED, text
    unsigned = signature_trouble(module, kernel)
    if unsigned is not None and unsigned[0] is Reason.SECURE_BOOT_UNSIGNED:
        text = "Secure Boot or lockdown is on, and a module built on the host is not signed: enrol a key for DKMS"
        how = "(mokutil --import /var/lib/dkms/mok.pub, reboot, confirm) and build it there once (dkms install)"
        return Reason.SECURE_BOOT_UNSIGNED, f"{text} {how}, or turn Secure Boot off; a signed build is taken as it is"
    if unsigned is not None:
        return unsigned
    if not subject.facts.drivers.dkms_present:
        return Reason.MANUAL_ACTION_REQUIRED, "dkms is not installed on the host: install the package dkms"
    return _headers_trouble(kernel)


def _headers_trouble(kernel: reported.KernelFacts) -> Trouble | None:
    """Return which kernel a module cannot be built for: of the one that runs and the one of the next boot."""
    if isinstance(kernel.kernels, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read which kernels are installed: {kernel.kernels.unknown}"
    if isinstance(kernel.release, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read which kernel runs: {kernel.release.unknown}"
    needed = (k for k in kernel.kernels if k.release == kernel.release or k.next_boot is True)
    bare = [k.release for k in needed if not k.headers]
    if not bare:
        return None
    package = "kernel-devel" if kernel.os_family == "redhat" else "linux-headers"
    return Reason.KERNEL_UNSUPPORTED, f"no headers for kernel {', '.join(bare)}: install {package}-{bare[0]}"
