# SPDX-License-Identifier: Apache-2.0
"""When does the kernel say that something changed? Listens to its uevents through pyudev. Does I/O.

The kernel's own events, not those that udev sends on: what is read afterwards is sysfs, which owes udev nothing, and
they come where no udevd runs too. They only wake the observer; what they say is not believed.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

LOG: Final = logging.getLogger(__name__)

#: Where devices come, go, are bound, unbound and changed; modules that are loaded and unloaded are events too.
SUBSYSTEMS: Final = (
    *("pci", "module", "net", "block", "nvme", "drm", "accel", "infiniband", "virtio", "vfio", "mdev", "fpga_manager"),
)


def listen(on_event: Callable[[], None]) -> bool:
    """Call *on_event* at each event from now on, in a thread; return False where events cannot be had."""
    try:
        from pyudev import Context, Monitor  # noqa: PLC0415 - a host without libudev has no events, and an agent all the same

        monitor = Monitor.from_netlink(Context(), source="kernel")
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        monitor.start()
    except (ImportError, OSError) as exc:
        LOG.warning("the kernel's events cannot be had, so changes are found by looking: %s", exc)
        return False

    def follow() -> None:
        while True:
            try:
                device = monitor.poll()
            except OSError as exc:
                # ENOBUFS: there were more than fit, and some are lost. That something changed is all that counts.
                LOG.info("the kernel's events: %s", exc)
                device = None
            if device is not None:
                LOG.debug("%s %s", device.action, device.device_path)
            on_event()

    threading.Thread(target=follow, name="events", daemon=True).start()
    return True
