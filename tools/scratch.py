# SPDX-License-Identifier: Apache-2.0
"""Where do the tests keep their files, and who takes them away?

`make test` runs this and gives the printed folder to the tests as TMPDIR; `tests/conftest.py` has each run make one of
its own there, by `scratch`, with which all goes that the run left, also when it was killed.

The tests make some hundred thousand small files and databases that need not outlive the machine: in memory that takes a
third less of the processor's time than on a disk. Where there is no such place, or too small a one, they lie where all
temporary files do.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the place that Linux has for this; what is made in it has names of its own
#: Several times as much as they were seen to take at once.
ROOM_BYTES = 1 << 30
PREFIX = "cyborg-tests-"
#: Whoever ends may write until he has ended.
TRIES, PAUSE_S = 100, 0.1


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


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a new folder, which is TMPDIR; when the block is left, or this process ends otherwise, it goes.

    With it goes what is mounted there, and each process that still has it as its TMPDIR. A process of its own sees to
    that: what it reads comes to its end when ours does.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)  # a server of PostgreSQL runs as somebody else
    command = [sys.executable, __file__, str(folder)]
    remover = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd="/"
    )
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        left, _ = remover.communicate()
        sys.stderr.write(left)


def remove(folder: Path) -> Iterator[str]:
    """Remove *folder* with all that is mounted there, and yield whom that ended."""
    for _ in range(TRIES):
        for pid in workers_in(folder):
            with suppress(OSError):
                yield f"left behind, and killed: {pid} {Path(f'/proc/{pid}/cmdline').read_bytes()[:200]!r}\n"
                os.kill(pid, signal.SIGKILL)
        for place in mounted_in(folder):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)  # noqa: S607 - on PATH
        for base, names, _ in os.walk(folder):  # a folder comes before what is in it
            for closed in (Path(base, name) for name in names if not Path(base, name).is_symlink()):
                with suppress(OSError):
                    closed.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(PAUSE_S)
    yield f"cannot be removed: {folder}\n"


def workers_in(folder: Path) -> list[int]:
    """Return the processes whose TMPDIR is *folder*, or lies in it."""
    mark, found = f"\0TMPDIR={folder}".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in b"\0" + environ.read_bytes():
                found.append(int(environ.parent.name))
    return found


def mounted_in(folder: Path) -> list[str]:
    """Return what is mounted in *folder*, the deepest first. Source: proc(5)."""
    with Path("/proc/self/mounts").open(encoding="utf-8") as mounts:
        places = [line.split()[1] for line in mounts]
    return sorted((place for place in places if Path(place).is_relative_to(folder)), reverse=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(find_scratch(dict(os.environ)))
    else:
        sys.stdin.read()
        told = "".join(remove(Path(sys.argv[1])))
        with suppress(BrokenPipeError):
            sys.stdout.write(told)
            sys.stdout.flush()
