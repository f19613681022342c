# SPDX-License-Identifier: Apache-2.0
"""How are the files of a simulated host written, linked and read? Everything else in this package asks this.

Paths are given as the host sees them (``/sys/bus/pci``) and lie below the tree's root. Does I/O; standard library only.
"""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

#: What the simulation itself keeps in the tree: the hardware, and the little of the kernel that no file shows.
OWN_FOLDER: Final = "/.simulation"
READ_ONLY: Final = 0o444
READ_WRITE: Final = 0o644
WRITE_ONLY: Final = 0o200
EXECUTABLE: Final = 0o755


class Tree:
    """The files of one simulated host. Links are relative, so that a tree can be moved."""

    _numbers = itertools.count()

    def __init__(self, root: Path | str) -> None:
        self.root = os.path.realpath(root)

    def path(self, name: str) -> str:
        """Return where *name* lies for the rest of the world."""
        return self.root + name

    # -------------------------------------------------------------------------------------------------------- reads
    def text(self, name: str, default: str = "") -> str:
        """Return the text of *name* without the last line's end, *default* where it is not a readable file."""
        try:
            with open(self.root + name, encoding="utf-8") as file:
                return file.read().rstrip("\n")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return default

    def names(self, folder: str) -> list[str]:
        """Return what *folder* holds, in order; nothing where it is absent."""
        try:
            return sorted(os.listdir(self.root + folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        """Say whether *name* is there, links followed."""
        return os.path.exists(self.root + name)

    def resolve(self, name: str) -> str:
        """Return *name* with every link followed, as the host sees it."""
        return os.path.realpath(self.root + name).removeprefix(self.root) or "/"

    def target_name(self, link: str) -> str | None:
        """Return the last component of what *link* points to, None where there is no link."""
        try:
            return os.path.basename(os.readlink(self.root + link))
        except OSError:
            return None

    def link_target(self, link: str) -> str | None:
        """Return what *link* points to, as it stands there; None where there is no link."""
        try:
            return os.readlink(self.root + link)
        except OSError:
            return None

    def state(self, key: str) -> Any:  # noqa: ANN401 -- JSON, whose shape the key decides
        """Return what the kernel keeps under *key*, None where it keeps nothing."""
        text = self.text(f"{OWN_FOLDER}/{key}.json")
        return json.loads(text) if text else None

    # ------------------------------------------------------------------------------------------------------- writes
    def folder(self, name: str) -> None:
        """Make the folder *name* and those above it."""
        os.makedirs(self.root + name, exist_ok=True)

    def write(self, name: str, content: str | bytes, mode: int = READ_WRITE) -> None:
        """Write a file that is not there yet, its folders included."""
        data = content.encode() if isinstance(content, str) else content
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            handle = os.open(self.root + name, flags, mode)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.root + name), exist_ok=True)
            handle = os.open(self.root + name, flags, mode)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)

    def replace(self, name: str, content: str | bytes, mode: int = READ_ONLY) -> None:
        """Write *name* so that a reader sees the old text or the new one, never half of it."""
        fresh = f"{OWN_FOLDER}/new-{os.getpid()}-{next(self._numbers)}"
        self.write(fresh, content, mode)
        os.makedirs(os.path.dirname(self.root + name), exist_ok=True)
        os.replace(self.root + fresh, self.root + name)

    def attributes(self, folder: str, values: dict[str, str], mode: int = READ_ONLY) -> None:
        """Write one file for each of *values* in *folder*, each text with a line's end, as sysfs shows them."""
        self.folder(folder)
        for name, value in values.items():
            self.write(f"{folder}/{name}", f"{value}\n", mode)

    def link(self, name: str, target: str) -> None:
        """Make *name* a relative link to *target*; both as the host sees them, folders on the way are no links."""
        folder = os.path.dirname(name)
        relative = os.path.relpath(target, folder)
        try:
            os.symlink(relative, self.root + name)
        except FileNotFoundError:
            os.makedirs(self.root + folder, exist_ok=True)
            os.symlink(relative, self.root + name)
        except FileExistsError:
            os.unlink(self.root + name)
            os.symlink(relative, self.root + name)

    def link_text(self, name: str, target: str) -> None:
        """Make the link *name* with the text *target* as it is, as those in /proc/<pid>/fd are."""
        os.symlink(target, self.root + name)

    def remove(self, name: str) -> None:
        """Take away the file, link or folder *name*; nothing happens where it is absent."""
        path = self.root + name
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def keep(self, key: str, value: Any) -> None:  # noqa: ANN401 -- JSON, whose shape the key decides
        """Keep *value* under *key* for the kernel."""
        self.replace(f"{OWN_FOLDER}/{key}.json", json.dumps(value), READ_WRITE)
