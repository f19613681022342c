# SPDX-License-Identifier: Apache-2.0
"""Which devices does an action change besides the one it is for? Called by `plan` for those in maintenance. Pure."""

from collections.abc import Collection

from cyborg_reconciler.core.features import binding
from cyborg_reconciler.core.state import HOST, Action, Disruption
from cyborg_reconciler.core.subject import Subject, driver_proper, matches, module_name
from cyborg_reconciler.documents.facts import Device, Unknown


def reached(action: Action, subject: Subject) -> Collection[str]:
    """Return the addresses of the devices that *action* resets, or gives or takes a driver; where that is unknown, too.

    A reboot resets them all.
    """
    if action.disruption is Disruption.REBOOT:
        return subject.devices.keys()
    if action.target == HOST:
        return _by_module(action, subject)
    if action.disruption is Disruption.NONE or action.target not in subject.devices:
        return ()
    vfs = [device.address for device in subject.devices.values() if device.physfn == action.target]
    group = subject.devices[action.target].iommu_members if action.feature == binding.NAME else ()
    return (*vfs, *group)


def _by_module(action: Action, subject: Subject) -> Collection[str]:
    """Return what the module of *action* drives, where it goes; or would drive, where it comes."""
    args = action.call.args if action.call else {}
    name = str(args.get("module") or args.get("name") or "")
    if action.disruption is Disruption.MODULE_RELOAD:
        return [device.address for device in (*subject.driven_by(name), *subject.perhaps_driven_by(name))]
    if args.get("state") not in {"present", "loaded"}:
        return ()
    spec = subject.catalogue.get(str(args.get("name")))
    return [
        device.address
        for device in subject.devices.values()
        if _is_free(device) and (_is_taken_by(device, name) or (spec and matches(device, spec.match, perhaps=True)))
    ]


def _is_free(device: Device) -> bool:
    driver = driver_proper(device)
    return device.driver_override is None and (driver is None or isinstance(driver, Unknown))


def _is_taken_by(device: Device, module: str) -> bool:
    return isinstance(device.modules, Unknown) or module_name(module) in map(module_name, device.modules)
