# SPDX-License-Identifier: Apache-2.0
"""What does a file hold that only its owner may know? Does I/O.

Called wherever a setting names such a file: by the agent, by what calls agents, and by the API's processes. All of them
check it alike, and check the very file that was opened.
"""

import os
import stat
from pathlib import Path
from typing import Final

from cyborg_reconciler.errors import SettingsInvalidError

#: No secret is longer, and what is longer is some other file.
SECRET_BYTES: Final = 4096


def read_secret(path: Path, what: str = "a secret", *, group: bool = False) -> str:
    """Return the secret that the file at *path* holds, which nobody else may read; with *group*, but its group.

    Raises:
        SettingsInvalidError: it is not there, may be read by others, or is no secret; calls it *what*.
    """
    (text,) = _read_words(path, what, 1, group=group)
    return text


def read_secrets(path: Path, what: str = "secrets") -> tuple[str, ...]:
    """Return the secrets that the file at *path* holds, one a line, which nobody else may read.

    Raises:
        SettingsInvalidError: it is not there, may be read by others, or holds no secret; calls them *what*.
    """
    return _read_words(path, what)


def _read_words(path: Path, what: str, count: int | None = None, *, group: bool = False) -> tuple[str, ...]:
    """Return the words that the file holds: *count* of them, or one at least."""
    wanted = f"{what} in {path}"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(SECRET_BYTES + 1)
    except OSError as exc:
        raise SettingsInvalidError(wanted=wanted, found=exc.strerror or str(exc)) from exc
    if mode & (stat.S_IRWXO if group else stat.S_IRWXG | stat.S_IRWXO):
        found = f"others may read it (mode {stat.S_IMODE(mode):04o})"
        raise SettingsInvalidError(wanted=wanted, found=found, remedy=f"chmod 600 {path}")
    words = tuple(data.decode("latin-1").split())
    if len(data) > SECRET_BYTES or not words or not all(map(is_secret, words)) or len(words) != (count or len(words)):
        raise SettingsInvalidError(wanted=wanted, found="not one printable word" if count else "no printable words")
    return words


def is_secret(text: str) -> bool:
    """Say whether *text* can travel as a bearer token: one printable word."""
    return bool(text) and len(text) <= SECRET_BYTES and text.isascii() and text.isprintable() and " " not in text
