# SPDX-License-Identifier: Apache-2.0
"""Which files hold the declarations, and have they changed?

Lists files and looks at their times and sizes; opens none. Called by `yaml`.
"""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cyborg_reconciler.errors import Problem

SUFFIXES: Final = (".yml", ".yaml")
MAX_FILES: Final = 10_000
#: A folder with this file is the source of a driver; its YAML files are not ours.
DKMS_CONF: Final = "dkms.conf"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be read.

    Attributes:
        asked: its path as it was asked for. path: where it really lies.
        state: what changes when the file does.
    """

    asked: Path
    path: Path
    state: tuple[int, ...]

    @property
    def shown(self) -> str:
        """The path for people."""
        return _printable(self.asked)


@dataclass(slots=True)
class Listing:
    """The files below one or more paths, and what cannot be read there."""

    asked: list[Path] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    #: Files that are not read, but whose change matters.
    watched: list[File] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def stamp(self) -> str:
        """Return a digest that changes when a file comes, goes or is written, or when something becomes unreadable."""
        rows = [f"{file.shown} {file.path} {file.state}" for file in (*self.files, *self.watched)]
        return hashlib.sha256("\0".join([*rows, *map(str, self.problems)]).encode()).hexdigest()

    def add(self, path: Path) -> None:
        """List the file *path*, or the YAML files of the tree below it."""
        self.asked.append(path)
        try:
            real = path.resolve(strict=True)
            mode = real.stat().st_mode
        except (OSError, RuntimeError) as exc:  # RuntimeError: a loop of links, before Python 3.13
            self._refuse(path, exc)
            return
        if stat.S_ISDIR(mode):
            self._add_folder(path, real, real)
        else:
            self._add_file(path, real)

    def _add_folder(self, shown: Path, folder: Path, root: Path) -> None:
        if self._is_known(folder):
            return
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as exc:
            self._refuse(shown, exc)
            return
        if DKMS_CONF in names and folder != root:
            self._watch(shown / DKMS_CONF, folder / DKMS_CONF)
            return
        for name in names:
            if not name.startswith("."):
                self._add_entry(shown / name, folder / name, root)

    def _add_entry(self, shown: Path, path: Path, root: Path) -> None:
        """List what lies in a folder: links are followed as long as they stay inside the tree."""
        is_yaml = path.name.endswith(SUFFIXES)
        try:
            real = path.resolve(strict=True) if path.is_symlink() else path
            is_folder = real.is_dir()
        except (OSError, RuntimeError) as exc:
            if is_yaml:
                self._refuse(shown, exc)
            return
        if not is_folder and not is_yaml:
            return
        if not real.is_relative_to(root):
            place = (_printable(shown), 0, "", f"is a link out of the tree, to {_printable(real)}")
            if is_folder:
                self.warnings.append(Problem(*place, "it is not followed; move the files here if they are policies"))
            else:
                self.problems.append(Problem(*place, "copy the file here, or remove the link"))
        elif is_folder:
            self._add_folder(shown, real, root)
        else:
            self._add_file(shown, real)

    def _add_file(self, shown: Path, path: Path) -> None:
        if self._is_known(path):
            return
        if len(self.files) == MAX_FILES:
            message = f"there are more than {MAX_FILES} files"
            self.problems.append(Problem(_printable(shown), 0, "", message, "point to a smaller tree"))
        if len(self.files) >= MAX_FILES:
            return
        try:
            found = path.stat()
        except OSError as exc:
            self._refuse(shown, exc)
            return
        if not stat.S_ISREG(found.st_mode):
            self.problems.append(Problem(_printable(shown), 0, "", "is no ordinary file", "remove it, or rename it"))
            return
        self.files.append(File(shown, path, _state(found)))

    def _watch(self, shown: Path, path: Path) -> None:
        try:
            self.watched.append(File(shown, path, _state(path.stat())))
        except OSError:
            self.watched.append(File(shown, path, ()))

    def _is_known(self, path: Path) -> bool:
        known = str(path) in self._seen
        self._seen.add(str(path))
        return known

    def _refuse(self, shown: Path, exc: OSError | RuntimeError) -> None:
        self.problems.append(unreadable(_printable(shown), exc))


def unreadable(shown: str, exc: OSError | RuntimeError) -> Problem:
    """Return the problem of a file or folder that the system does not let us read."""
    if isinstance(exc, FileNotFoundError):
        return Problem(shown, 0, "", "is not there", "check the path")
    if isinstance(exc, PermissionError):
        return Problem(shown, 0, "", "may not be read by this user", "allow it, or run as a user who may")
    why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return Problem(shown, 0, "", f"cannot be read: {why}", "check the path and its file system")


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _printable(path: Path) -> str:
    """Return *path* without what no terminal can show."""
    text = str(path)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
