# SPDX-License-Identifier: Apache-2.0
"""When does the kernel say that something changed? Listens to its uevents through pyudev. Does I/O.

The kernel's own events, not those that udev sends on: what is read afterwards is sysfs, which owes udev nothing, and
they come where no udevd runs too. They only wake the observer; what they say is not believed.
"""

import logging
import threading
from collections.abc import Callable
from errno import ENOBUFS
from typing import Any, Final

LOG: Final = logging.getLogger(__name__)

#: Where devices come, go, are bound, unbound and changed; modules that are loaded and unloaded are events too.
SUBSYSTEMS: Final = (
    *("pci", "module", "net", "block", "nvme", "drm", "accel", "infiniband", "virtio", "vfio", "mdev", "fpga_manager"),
)
#: After an error that may last, as of a socket that is gone.
REST_S: Final = 1.0


def listen(on_event: Callable[[], None], ended: threading.Event) -> bool:
    """Call *on_event* at each event until *ended*, in a thread; return False where events cannot be had."""
    try:
        from pyudev import Context, Monitor  # noqa: PLC0415 - a host without libudev has no events, and an agent all the same

        monitor = Monitor.from_netlink(Context(), source="kernel")
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        monitor.start()
    except (ImportError, OSError) as exc:
        LOG.warning("the kernel's events cannot be had, so changes are found by looking: %s", exc)
        return False

    arguments = (monitor.poll, on_event, ended)
    threading.Thread(target=follow, args=arguments, name="events", daemon=True).start()
    return True


def follow(poll: Callable[[], Any], on_event: Callable[[], None], ended: threading.Event) -> None:
    """Call *on_event* at each event that *poll* waits for, and where events may have been lost, until *ended*."""
    is_deaf = False
    while not ended.is_set():
        try:
            device = poll()
        except OSError as exc:
            if is_deaf and exc.errno != ENOBUFS:
                ended.wait(REST_S)
                continue
            # ENOBUFS: there were more than fit, and some are lost. That something changed is all that counts.
            LOG.info("the kernel's events: %s", exc)
            device, is_deaf = None, exc.errno != ENOBUFS
        else:
            is_deaf = False
        if device is not None:
            LOG.debug("%s %s", device.action, device.device_path)
        on_event()
