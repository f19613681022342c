# SPDX-License-Identifier: Apache-2.0
"""The driver for PCI functions by what their class says: GPU, crypto, NIC, NVMe, FPGA. Reads sysfs through `Host`.

Reads what the kernel counts and measures by itself, and asks no vendor's tool.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from cyborg_reconciler.agent.drivers.base import DEGRADED, HEALTHY, MISSING, UNKNOWN, Device
from cyborg_reconciler.agent.readers import PCI_DEVICES, Facts, Host
from cyborg_reconciler.errors import HostUnreadableError
from cyborg_reconciler.hardware import GENERIC, Function, identities, type_of

#: Counters of PCI Express errors since the device was found. Source: Linux, sysfs-bus-pci-devices-aer.
ERRORS: Final = {
    "errors_correctable": ("aer_dev_correctable", "TOTAL_ERR_COR"),
    "errors_nonfatal": ("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL"),
    "errors_fatal": ("aer_dev_fatal", "TOTAL_ERR_FATAL"),
}
#: Metric → attribute of the function, and by what to divide. Source: Linux, sysfs-bus-pci; amdgpu, "GPU sysfs".
ATTRIBUTES: Final = {
    "link_speed_gts": ("current_link_speed", 1),
    "link_width": ("current_link_width", 1),
    "utilisation_ratio": ("gpu_busy_percent", 100),
    "memory_total_bytes": ("mem_info_vram_total", 1),
    "memory_used_bytes": ("mem_info_vram_used", 1),
}
#: Metric → file of a net device. Source: Linux, sysfs-class-net and sysfs-class-net-statistics.
NETWORK: Final = {
    "link_up": "carrier",
    **{f"{name}_total": f"statistics/{name}" for name in ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors")},
}
#: Thousandths of a degree. Source: Linux, Documentation/hwmon/sysfs-interface.rst.
MILLI: Final = 1000
#: A controller that the driver gave up. Source: Linux, drivers/nvme/host/sysfs.c, ``state``.
NVME_DEAD: Final = "dead"


class PciDriver:
    """Detects PCI functions and watches those that are accelerators; its name is that of the catalogue's driver."""

    name: Final = "generic-pci"
    type: Final = GENERIC
    is_of_facts: Final = True

    def __init__(self, host: Host) -> None:
        self._host = host

    # --------------------------------------------------------------------------------------------------------- devices
    def discover(self, facts: Facts) -> Sequence[Device]:
        """Return every PCI function, supported or not."""
        functions = {device["address"]: device for device in facts["devices"]}
        named = identities(map(_function, functions.values()))
        reboot = needs_reboot(facts)
        return [
            _device(function, functions, named[address], reboot_required=reboot)
            for address, function in functions.items()
        ]

    def set_up(self, ready: Collection[str]) -> None:
        """Do nothing: what PCI functions need is installed by the collection's roles."""

    # ---------------------------------------------------------------------------------------------------------- status
    def status(self, device: Device) -> str:
        """Return how *device* fares: fatal errors, or a controller that was given up, make it ``Degraded``."""
        base = f"{PCI_DEVICES}/{device.address}"
        if not self._host.exists(base):
            return MISSING
        try:
            fatal = _total(self._host.read(f"{base}/aer_dev_fatal"), ERRORS["errors_fatal"][1])
            states = [self._host.read(f"/sys/class/nvme/{name}/state") for name in device.nvme_names]
        except HostUnreadableError:
            return UNKNOWN
        return DEGRADED if fatal or NVME_DEAD in states else HEALTHY

    def usage(self, device: Device) -> Mapping[str, float]:
        """Return what the kernel measures of *device*; what is no accelerator is not measured."""
        return {} if device.device_type == GENERIC else dict(self._measured(device))

    def _measured(self, device: Device) -> Iterator[tuple[str, float]]:
        base = f"{PCI_DEVICES}/{device.address}"
        for metric, (attribute, label) in ERRORS.items():
            count = _total(self._host.text(f"{base}/{attribute}"), label)
            if count is not None:
                yield metric, count
        for metric, (attribute, divisor) in ATTRIBUTES.items():
            value = _number(self._host.text(f"{base}/{attribute}"))
            if value is not None:
                yield metric, value / divisor
        for place in (base, *(f"{base}/nvme/{name}" for name in device.nvme_names)):
            degrees = self._temperature(place)
            if degrees is not None:
                yield "temperature_celsius", degrees
        for metric, file in NETWORK.items():
            values = [_number(self._host.text(f"/sys/class/net/{name}/{file}")) for name in device.net_names]
            known = [value for value in values if value is not None]
            if known:
                yield metric, sum(known)

    def _temperature(self, place: str) -> float | None:
        """Return the first temperature that sensors of the device at *place* tell, None where there are none."""
        folders = [f"{place}/hwmon/{name}" for name in self._host.names(f"{place}/hwmon")]
        folders += [f"{place}/{name}" for name in self._host.names(place) if re.fullmatch(r"hwmon\d+", name)]
        for folder in folders:
            value = _number(self._host.text(f"{folder}/temp1_input"))
            if value is not None:
                return value / MILLI
        return None


# --------------------------------------------------------------------------------------------------------- of the facts
def _known(fact: object) -> str | None:
    return fact if isinstance(fact, str) else None


def _function(function: Mapping[str, Any]) -> Function:
    physfn = function.get("physfn")
    return Function(
        address=function["address"],
        vendor_id=_known(function.get("vendor_id")),
        product_id=_known(function.get("product_id")),
        serial=_known(function.get("serial")),
        physfn=physfn if isinstance(physfn, str | None) else "",
        vf_index=function.get("vf_index"),
    )


def _device(
    function: Mapping[str, Any], functions: Mapping[str, Any], identity: tuple[str, ...], *, reboot_required: bool
) -> Device:
    vendor_id, product_id, class_id = (_known(function.get(fact)) for fact in ("vendor_id", "product_id", "class_id"))
    physfn = function.get("physfn")
    pf = functions.get(physfn) if isinstance(physfn, str) else None
    kind = type_of(vendor_id, product_id, class_id) or GENERIC
    total = function.get("total_vfs")
    vfs = total if isinstance(total, int) else 0
    nvme = function.get("nvme_names")
    return Device(
        address=function["address"],
        identity=identity,
        device_type=kind,
        acc_type="VF" if physfn else "PF" if vfs else "PCI",
        vendor_id=vendor_id,
        product_id=product_id,
        num=max(1, vfs),
        setup_required=kind != GENERIC and _lacks_driver(pf or function),
        reboot_required=reboot_required,
        net_names=tuple(function.get("net_names", ())),
        nvme_names=tuple(nvme) if isinstance(nvme, list) else (),
    )


def _lacks_driver(function: Mapping[str, Any]) -> bool:
    """Say whether nothing drives *function*, and is not meant to; what could not be read is not known to lack one."""
    return function.get("driver") is None and function.get("driver_override") is None


def needs_reboot(facts: Facts) -> bool:
    """Say whether an argument, or the initial RAM disk, is configured for the next boot and known not to run."""
    kernel, due = facts["kernel"], facts["drivers"].get("initramfs_due")
    if due:
        return isinstance(due, list)
    next_boot, running = kernel.get("args_next_boot"), kernel.get("args_running")
    if not isinstance(next_boot, list) or not isinstance(running, list):
        return False
    return bool(set(next_boot) - set(running))


def _total(text: str | None, label: str) -> float | None:
    """Return the number after *label* in the lines of an error counter's attribute."""
    lines = (line.split() for line in (text or "").splitlines())
    return next((_number(words[1]) for words in lines if words[:1] == [label] and words[1:]), None)


def _number(text: str | None) -> float | None:
    """Return the number that *text* begins with (``16.0 GT/s PCIe``), None where it is none."""
    match = re.match(r"-?\d{1,20}(\.\d{1,9})?(?=\s|$)", text or "", re.ASCII)
    return float(match[0]) if match else None
