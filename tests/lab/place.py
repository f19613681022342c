# SPDX-License-Identifier: Apache-2.0
"""Where does the lab keep its things, and how do two runs of it share them?

Called by `image`, `snapshot`, `guest` and the fixtures. Touches the disk.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

PROJECT = Path(__file__).parents[2]
STALE_S = 24 * 3600
OWNED = "owned"
SOCKETS = "sockets"


def lab_folder() -> Path:
    """Return where images, snapshots and running guests are: LAB_DIR, or ``.lab`` at the root of the project."""
    return Path(os.environ.get("LAB_DIR") or PROJECT / ".lab").resolve()


def say(text: str) -> None:
    """Tell whoever waits what happens, on standard error."""
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def digest_of(*files: Path) -> str:
    """Return a short digest of what *files* hold."""
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


@contextmanager
def locked(what: str) -> Iterator[None]:
    """Keep two runs of the lab from making the same thing at the same time."""
    lab_folder().mkdir(parents=True, exist_ok=True)
    with (lab_folder() / f"{what}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class GuestFolder:
    """The files of one running guest.

    Attributes:
        files: its disk, its console's log, its keys.
        sockets: apart from them, since a socket's path may be 107 bytes long and the lab's folder may be deep.
    """

    files: Path
    sockets: Path
    _owned: TextIO

    @classmethod
    def make(cls, name: str) -> Self:
        """Return a new folder, marked as owned for as long as this process lives."""
        guests = lab_folder() / "guests"
        guests.mkdir(parents=True, exist_ok=True)
        with locked("guests"):
            files = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=guests))
            sockets = Path(tempfile.mkdtemp(prefix="lab-"))
            (files / SOCKETS).symlink_to(sockets)
            owned = (files / OWNED).open("w")
            fcntl.flock(owned, fcntl.LOCK_EX)
        return cls(files, sockets, owned)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.files)
        self._owned.close()


def remove_stale(folder: Path, keep: Path) -> None:
    """Remove what stands beside *keep* in *folder* and was made over a day ago; another run may still use the rest."""
    for other in folder.glob("*"):
        if other != keep and time.time() - other.stat().st_mtime > STALE_S:
            shutil.rmtree(other)


def remove_orphans() -> None:
    """Remove the folders of guests whose process ended without doing so; their QEMU died with it."""
    with locked("guests"):
        for files in (lab_folder() / "guests").glob("*"):
            with (files / OWNED).open("a") as owned:
                try:
                    fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree((files / SOCKETS).resolve(), ignore_errors=True)
                shutil.rmtree(files)
