# SPDX-License-Identifier: Apache-2.0
"""What does the agent keep over a restart? Its folder: the token, the epoch, drivers, and facts not yet delivered.

Does I/O. Every file is written whole or not at all (temporary file, fsync, rename), and is readable by the agent alone.
Whichever thread writes, one does at a time: the temporary file is one, and what was written last is what stays.
A file that makes no sense is set aside and never fatal; a disk that takes nothing is said, and what was to be written
goes on in memory.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cyborg_reconciler.agent.schedule import next_epoch
from cyborg_reconciler.errors import AlreadyRunningError, SettingsInvalidError

LOG: Final = logging.getLogger(__name__)

#: What a file is called once it was found to make no sense; there is at most one of each.
ASIDE: Final = ".unreadable"
TEMPORARY: Final = ".new"
#: No file of ours is longer.
FILE_BYTES: Final = 16 * 1024 * 1024


class StateFolder:
    """The agent's folder. One agent at a time works in it, with as many threads as it has.

    Raises: AlreadyRunningError, SettingsInvalidError where the folder cannot be made or used.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._changing = path, threading.Lock()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._lock)
            raise AlreadyRunningError(
                wanted=f"the state folder {path}", found="another agent works in it", remedy="end it, or set state_dir"
            ) from exc
        except OSError as exc:
            raise SettingsInvalidError(wanted=f"the state folder {path}", found=exc.strerror or str(exc)) from exc
        self._unwritten: dict[str, bytes] = {}

    def close(self) -> None:
        """Let another agent have the folder."""
        os.close(self._lock)

    def read(self, name: str) -> bytes | None:
        """Return what the file *name* holds, None where it is absent or cannot be read."""
        try:
            with (self.path / name).open("rb") as file:
                data = file.read(FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            LOG.warning("%s: %s", self.path / name, exc.strerror)
            return None
        return data if len(data) <= FILE_BYTES else None

    def write(self, name: str, data: bytes) -> bool:
        """Write the file *name* whole or not at all; return whether it is on the disk now."""
        with self._changing:
            return self._write(name, data)

    def _write(self, name: str, data: bytes) -> bool:
        temporary = self.path / (name + TEMPORARY)
        try:
            temporary.parent.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            temporary.replace(self.path / name)
            sync_folder(temporary.parent)
        except OSError as exc:
            with contextlib.suppress(OSError):
                temporary.unlink()  # what was written of it takes room
            if name not in self._unwritten:
                LOG.error("%s: %s; kept in memory until it can be written", self.path / name, exc.strerror)  # noqa: TRY400 - what is wrong is the disk
            self._unwritten[name] = data
            return False
        if self._unwritten.pop(name, None) is not None:
            LOG.info("%s: is written now", self.path / name)
        return True

    def flush(self) -> None:
        """Write what could not be written before."""
        with self._changing:
            for name, data in list(self._unwritten.items()):
                self._write(name, data)

    def remove(self, name: str) -> None:
        """Remove the file *name*; absent is fine."""
        with self._changing:
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as exc:
                LOG.warning("%s: %s", self.path / name, exc.strerror)
            self._unwritten.pop(name, None)

    def set_aside(self, name: str, why: str) -> None:
        """Take the file *name* out of the way, and say *why*. Of the files of a subfolder the last one is kept."""
        aside = self.path / (name.partition("/")[0] + ASIDE)
        LOG.error("%s: %s; it is set aside as %s", self.path / name, why, aside.name)
        try:
            (self.path / name).replace(aside)
        except OSError as exc:
            LOG.warning("%s: %s", self.path / name, exc.strerror)

    def names(self, folder: str) -> list[str]:
        """Return the files in the subfolder *folder*, in order; those that were never finished are removed."""
        try:
            found = sorted(entry.name for entry in (self.path / folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            LOG.warning("%s: %s", self.path / folder, exc.strerror)
            return []
        for name in found:
            if name.endswith(TEMPORARY):
                self.remove(f"{folder}/{name}")
        return [name for name in found if not name.endswith(TEMPORARY)]

    @property
    def troubles(self) -> tuple[str, ...]:
        """Return what cannot be written now, as reasons for people."""
        return tuple(f"{self.path / name}: cannot be written; kept in memory" for name in sorted(self._unwritten))

    # ------------------------------------------------------------------------------------------------- what is in it
    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the object in the file *name*, None where it is absent; one that is none is set aside."""
        data = self.read(name)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        self.set_aside(name, "is no JSON object")
        return None

    def write_json(self, name: str, value: dict[str, Any]) -> bool:
        """Write *value*; return whether it is on the disk now."""
        return self.write(name, json.dumps(value).encode())

    def begin_epoch(self, unix_s: float) -> int:
        """Return the epoch of this start, which is kept."""
        stored = (self.read_json("epoch.json") or {}).get("epoch")
        epoch = next_epoch(stored if isinstance(stored, int) else None, unix_s)
        self.keep_epoch(epoch)
        return epoch

    def keep_epoch(self, epoch: int) -> None:
        """Keep *epoch*."""
        self.write_json("epoch.json", {"epoch": epoch})


def sync_folder(path: Path) -> None:
    """Have the names in the folder *path* on the disk too. Raises: OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this host is to the conductor.

    Attributes:
        host, uuid: its name and its uuid there.
        token: what it shows there.
        previous: the token before that, until the conductor has taken the new one.
    """

    host: str
    uuid: str
    token: str
    previous: str | None = None


IDENTITY: Final = "identity.json"


def is_uuid(text: object) -> bool:
    """Say whether *text* is a uuid as we write them."""
    try:
        return isinstance(text, str) and str(UUID(text)) == text
    except ValueError:
        return False


def read_identity(folder: StateFolder) -> Identity | None:
    """Return who this host is, None where no look-up has said so yet."""
    found = folder.read_json(IDENTITY)
    if found is None:
        return None
    words = {name: found.get(name) for name in ("host", "uuid", "token")}
    previous = found.get("previous")
    is_one = all(isinstance(word, str) and word for word in words.values()) and is_uuid(words["uuid"])
    if is_one and isinstance(previous, str | None):
        return Identity(str(words["host"]), str(words["uuid"]), str(words["token"]), previous)
    folder.set_aside(IDENTITY, "does not say who this host is")
    return None


def write_identity(folder: StateFolder, identity: Identity) -> bool:
    """Keep who this host is; return whether it is on the disk."""
    return folder.write_json(IDENTITY, asdict(identity))


def rotated(identity: Identity, token: str) -> Identity:
    """Return *identity* with a new *token*; the last one that the conductor is known to take is the previous one."""
    if token == identity.token:
        return identity
    return replace(identity, token=token, previous=identity.previous or identity.token)
