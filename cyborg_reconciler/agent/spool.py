# SPDX-License-Identifier: Apache-2.0
"""Which check-ins with facts could not be delivered yet? Kept on disk, in order, and few. Does I/O.

`reporter` adds each check-in that has facts, and takes it out once the conductor has it. When there are more than
`LIMIT`, the newest supersedes the oldest. Where the disk takes nothing, memory holds them.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from cyborg_reconciler.agent.state import StateFolder

LOG: Final = logging.getLogger(__name__)
FOLDER: Final = "spool"
#: The newest says what is true; those before it say what was so in between.
LIMIT: Final = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A check-in with facts, at its place in the order; its body is what was to be sent, to the letter."""

    epoch: int
    sequence: int
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the file's name: names in order are check-ins in order."""
        return f"{FOLDER}/{self.epoch:020d}-{self.sequence:010d}"


class Spool:
    """The check-ins that wait, the oldest first. What an earlier process left is taken up."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        found = (self._read(f"{FOLDER}/{name}") for name in folder.names(FOLDER))
        self._entries = sorted((entry for entry in found if entry), key=lambda entry: (entry.epoch, entry.sequence))
        self._prune()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Keep *entry*, which is the newest."""
        body = json.dumps(entry.body).encode()
        self._entries.append(entry)
        self._prune()
        self._folder.write(entry.name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def oldest(self) -> Entry | None:
        """Return what is to be delivered next."""
        return self._entries[0] if self._entries else None

    def done(self, entry: Entry) -> None:
        """Take out *entry*: the conductor has it, or will never take it."""
        self._entries.remove(entry)
        self._folder.remove(entry.name)

    def _prune(self) -> None:
        while len(self._entries) > LIMIT:
            self.done(self._entries[0])

    def _read(self, name: str) -> Entry | None:
        data = self._folder.read(name)
        if data is None:
            return None
        digest, _, text = data.partition(b"\n")
        try:
            if hashlib.sha256(text).hexdigest().encode() == digest:
                body = json.loads(text)
                return Entry(body["epoch"], body["sequence"], body)
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            LOG.debug("%s: %r", name, exc)
        self._folder.set_aside(name, "is not what was written there")
        return None
