# SPDX-License-Identifier: Apache-2.0
"""From which booted guest can a test start within seconds?

Called by the fixtures. Boots a guest once for each way of booting, saves its disk and memory, and starts any number of
guests from them. What blocks saving (nvme, virtio-crypto) or loses its state (edu) is plugged in afterwards.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.guest import Guest, Origin
from tests.lab.image import Image
from tests.lab.machine import Boot
from tests.lab.needs import read_qemu_version
from tests.lab.place import digest_of, lab_folder, locked, remove_stale, say

HERE = Path(__file__).parent
#: An upper limit for the bytes a second that a state is saved with; the disk sets the real one.
NO_LIMIT = 1 << 40
SAVE_TIMEOUT_S = 300.0

#: Names the machine and its preparation, as they were when this module was loaded.
DIGEST = digest_of(HERE / "machine.py", HERE / "snapshot.py")
#: The boot loader goes onto the whole disk: it has no partitions, so GRUB keeps a list of blocks, which is fine here.
INSTALL_BOOT_LOADER = """
grub-install --target=i386-pc --force --skip-fs-probe /dev/vda
update-grub
"""
#: What every test does first comes from memory afterwards, not from the disk.
WARM_UP = """
python3 -c 'import base64, ctypes, fcntl, json, logging, platform, re, shlex, subprocess, tempfile, uuid, zipfile'
lspci -nn >/dev/null
udevadm settle
sync
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A booted guest, saved.

    Attributes:
        folder: holds its disk and its state; never written to once it is there.
    """

    image: Image
    boot: Boot
    folder: Path

    def start(self, name: str) -> Guest:
        """Return a guest that goes on from here, told what to do but not waited for: see `settle`."""
        guest = Guest(name, self.image, self.boot, Origin(self.folder / "disk.qcow2", "qcow2", self.folder / "state"))
        guest.power_on(resume=True)
        return guest


def settle(guest: Guest) -> None:
    """Wait for a guest that was started from a snapshot, and give it an identity of its own."""
    guest.wait_ssh()
    guest.adopt_identity()


def provide_snapshot(image: Image, boot: Boot) -> Snapshot:
    """Return the snapshot of *image* booted by *boot*, taken first where it is not there yet."""
    if boot is Boot.KERNEL:
        origin, prepare = Origin(image.disk, "raw"), INSTALL_BOOT_LOADER + WARM_UP
    else:
        origin, prepare = Origin(provide_snapshot(image, Boot.KERNEL).folder / "disk.qcow2", "qcow2"), WARM_UP
    snapshot = Snapshot(
        image, boot, lab_folder() / "snapshots" / f"{boot.value}-{image.digest[:8]}-{DIGEST[:8]}-{read_qemu_version()}"
    )
    with locked(f"snapshot-{boot.value}"):
        if not snapshot.folder.exists():
            remove_stale(snapshot.folder.parent, keep=snapshot.folder)
            _take(snapshot, lambda: Guest(f"new-{boot.value}", image, boot, origin), prepare)
    return snapshot


def _take(snapshot: Snapshot, make: Callable[[], Guest], prepare: str) -> None:
    started = time.monotonic()
    say(f"booting a guest by its {snapshot.boot.value}, to take a snapshot (one to several minutes)")
    guest = make()
    try:
        guest.power_on()
        guest.wait_ssh()
        booted = time.monotonic()
        guest.ssh("sudo sh -eu", stdin=prepare)
        prepared = time.monotonic()
        draft = snapshot.folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save(guest, draft)
    finally:
        guest.close()
    draft.rename(snapshot.folder)
    stages = (booted - started, prepared - booted, time.monotonic() - prepared)
    say("snapshot {}: boot {:.0f} s, prepare {:.0f} s, save {:.0f} s".format(snapshot.folder.name, *stages))


def save(guest: Guest, folder: Path) -> None:
    """Save *guest*'s memory and disk into *folder*, and end it. Its disk stays an overlay of what it came from."""
    guest.leave_ssh()
    guest.qmp.command("stop")
    guest.qmp.command("migrate-set-parameters", {"max-bandwidth": NO_LIMIT})
    guest.qmp.command("migrate", {"uri": f"file:{folder / 'state'}"})
    deadline = time.monotonic() + SAVE_TIMEOUT_S
    while (progress := guest.qmp.command("query-migrate"))["status"] != "completed":
        if progress["status"] == "failed" or time.monotonic() > deadline:
            raise RuntimeError(f"{guest.name} could not be saved: {progress}")
        time.sleep(0.2)
    guest.power_off()
    guest.disk.rename(folder / "disk.qcow2")
