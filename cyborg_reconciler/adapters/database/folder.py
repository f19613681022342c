# SPDX-License-Identifier: Apache-2.0
"""Whose is the state folder? One writer's at a time: a lock that goes with its process, however that ends.

Called when a journal is opened. Makes the folder (0700) and the lock file (0600) in it.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from cyborg_reconciler.errors import AlreadyRunningError, JournalError, JournalFullError

DATABASE_NAME: Final = "journal.db"
LOCK_NAME: Final = "lock"

#: Bits that would let others put files of theirs in the place of ours.
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def translate_os_error(exc: OSError, folder: Path) -> JournalError:
    """Return the journal's error for what the operating system says of *folder*."""
    kind = JournalFullError if exc.errno in {errno.ENOSPC, errno.EDQUOT} else JournalError
    return kind(wanted=f"the state folder {folder}", found=exc.strerror or str(exc))


def make_folder(folder: Path) -> None:
    """Make *folder* when it is not there; nobody but its owner may look into it.

    Raises:
        JournalError: it cannot be made, or others may write into it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as exc:
        raise translate_os_error(exc, folder) from exc
    if mode & WRITABLE_BY_OTHERS:
        raise JournalError(
            wanted=f"the state folder {folder}",
            found=f"others may write into it (mode {stat.S_IMODE(mode):04o})",
            remedy=f"chmod 700 {folder}",
        )


def make_file(path: Path) -> None:
    """Make *path* when it is not there, for its owner alone; SQLite gives its other files the same mode.

    One that is there is not opened: with any descriptor of a file that a process closes go the locks that SQLite has on
    it in the same process. Others would then take the write-ahead log away from under it.
    Source: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as exc:
        raise translate_os_error(exc, path.parent) from exc


class FolderLock:
    """The right to write in *folder*. The kernel takes it back when the process ends, by whatever means."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            AlreadyRunningError: another process has it; says which.
        """
        path = folder / LOCK_NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise translate_os_error(exc, folder) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise AlreadyRunningError(
                wanted=f"the state folder {folder} for this process alone",
                found=f"process {holder} works with it" if holder else "another process works with it",
            ) from exc
        self._write_pid(folder)

    def _write_pid(self, folder: Path) -> None:
        """Say who we are; for people, so a full disk is no reason to stop here."""
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as exc:
            if not isinstance(translate_os_error(exc, folder), JournalFullError):
                raise

    def release(self) -> None:
        """Give the lock back. Calling it twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
