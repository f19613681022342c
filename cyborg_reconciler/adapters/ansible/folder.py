# SPDX-License-Identifier: Apache-2.0
"""What lies in the folder of a run, before and after? Ansible's input; later its output, without anything secret.

Called by `run`. Makes, scrubs and removes folders, each of them readable by its owner alone.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from cyborg_reconciler.adapters.ansible.environment import COLLECTION, find_collection
from cyborg_reconciler.errors import ExecutionError

#: Says how a run ended. A folder without it is of a run that nobody saw the end of.
ENDED: Final = "ended"
#: Of the folders of runs that did not go well, the newest that are kept to be looked at.
KEPT: Final = 20
#: What is kept of them: what Ansible printed. Everything else may hold plans, variables, or the environment.
KEPT_FILES: Final = ("stdout", "stderr", "rc", "status")
#: Which hosts the run is about, one a line: a command line has room for some thousand names, and all may read it.
HOSTS: Final = "hosts"
ARTIFACTS: Final = Path("artifacts/run")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the child of a run is to do.

    Attributes:
        run: its uuid, also the name of its folder. arguments: of ansible-playbook, but for playbook and hosts.
        working_folder: where the user is; what his inventory names by a relative path is found from there.
    """

    run: str
    working_folder: str
    playbook: str
    arguments: list[str]
    timeout_s: float
    grace_s: float


def write_private(path: Path, content: bytes) -> None:
    """Write *content* to a new file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of *folder* for a moment."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def is_held(folder: Path) -> bool:
    """Return whether the process that made *folder* is alive."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def make_folder(folder: Path, job: Job, hosts: list[str], variables: dict[str, Any]) -> int:
    """Make the folder of a run, with all that it needs, and return a file that holds its lock until it is closed.

    The lock goes with the process: that is how `find_unfinished` tells a run that was left from one that goes on.

    Raises:
        ExecutionError: it cannot be written.
    """
    collection = find_collection()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder.parent):
            folder.mkdir(mode=0o700)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as exc:
        raise ExecutionError(wanted=f"the run's folder {folder}", found=exc.strerror or str(exc)) from exc
    try:
        (folder / "tmp").mkdir(mode=0o700)
        link = folder / "collections" / COLLECTION.replace(".", "/")
        link.parent.mkdir(mode=0o700, parents=True)
        link.symlink_to(collection, target_is_directory=True)
        write_private(folder / "stderr", b"")
        write_private(folder / "job.json", msgspec.json.encode(job))
        write_private(folder / HOSTS, "".join(f"{host}\n" for host in hosts).encode())
        write_private(folder / "variables.json", msgspec.json.encode(variables))
    except OSError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        raise ExecutionError(wanted=f"the run's folder {folder}", found=exc.strerror or str(exc)) from exc
    return lock


def close_folder(folder: Path, status: str, *, keep: bool) -> None:
    """Remove the folder of a run, or *keep* what Ansible printed, with nothing secret beside it."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name in KEPT_FILES:
            continue
        if path.name == ARTIFACTS.parts[0]:
            for name in KEPT_FILES:
                with suppress(OSError):
                    (folder / ARTIFACTS / name).replace(folder / (f"ansible.{name}"))
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # without the mark, `settle` comes here again
        write_private(folder / ENDED, f"{status}\n".encode())
        remove_old(folder.parent)


def remove_old(runs: Path) -> None:
    """Remove all but the newest folders of ended runs."""
    ended = [folder for folder in runs.iterdir() if (folder / ENDED).exists()]
    for folder in sorted(ended, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def find_unfinished(runs: Path) -> Iterator[Path]:
    """Yield the folders of runs whose process is gone, and that nobody saw the end of."""
    if not runs.is_dir():
        return
    with locked(runs):
        found = [
            one for one in sorted(runs.iterdir()) if one.is_dir() and not (one / ENDED).exists() and not is_held(one)
        ]
    yield from found
