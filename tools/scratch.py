# SPDX-License-Identifier: Apache-2.0
"""Where do the tests keep their files? Run by `make test`, which gives the printed folder to them as TMPDIR.

They make some hundred thousand small files and databases that need not outlive the machine: in memory that takes a
third less of the processor's time than on a disk. Where there is no such place, or too small a one, they lie where all
temporary files do.
"""

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the place that Linux has for this; what is made in it has names of its own
#: Several times as much as they were seen to take at once.
ROOM_BYTES = 1 << 30


def find_scratch(environ: dict[str, str], memory: Path = MEMORY, room_bytes: int = ROOM_BYTES) -> str:
    """Return the folder: what TMPDIR names, or *memory* where programs may lie and *room_bytes* are free."""
    if environ.get("TMPDIR"):
        return environ["TMPDIR"]
    try:
        there = os.statvfs(memory)
    except OSError:
        return tempfile.gettempdir()
    has_room = there.f_bavail * there.f_frsize >= room_bytes and not there.f_flag & os.ST_NOEXEC
    return str(memory) if has_room and os.access(memory, os.W_OK) else tempfile.gettempdir()


if __name__ == "__main__":
    print(find_scratch(dict(os.environ)))
