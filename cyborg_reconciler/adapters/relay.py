# SPDX-License-Identifier: Apache-2.0
"""How does one process of a server tell the others something that is kept nowhere? By datagrams between local sockets.

Opened by `bootstrap` in each process; each has a socket in the folder that they share. Nothing is promised: what does
not fit, or finds a process that is behind, is lost, and the next of its kind says more.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: What a datagram may have, at most; the kernel's own limit is not far above it.
BYTES: Final = 128 * 1024
#: How often it is looked which processes there are.
LOOK_EVERY_S: Final = 1.0
PATTERN: Final = "relay-*.sock"


class Relay:
    """Carries what is told in this process to the others in *folder*, and gives *take* what they tell.

    Args:
        name: this process's among them; its number where none is given.

    Raises:
        OSError: no socket can be had there.
    """

    def __init__(self, folder: Path, take: Callable[[bytes], None], name: str = "") -> None:
        self._folder, self._take = folder, take
        self._path = _path(folder, name or str(os.getpid()))
        self._path.unlink(missing_ok=True)  # of a process that had our number and was killed
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(str(self._path))
        except OSError:
            self._socket.close()
            raise
        self._others: list[str] = []
        self._looked_s = float("-inf")
        self._is_open = True
        threading.Thread(target=self._listen, name="relay", daemon=True).start()

    def tell(self, data: bytes) -> None:
        """Tell the others, those that are there and not behind."""
        if len(data) > BYTES:
            return
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._others = [str(path) for path in self._folder.glob(PATTERN) if path != self._path]
        for other in self._others:
            with contextlib.suppress(OSError):
                self._socket.sendto(data, socket.MSG_DONTWAIT, other)

    def close(self) -> None:
        """Tell and hear nothing more."""
        self._is_open = False
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while self._is_open:
            try:
                data = self._socket.recv(BYTES)
            except OSError:
                return
            if data:
                self._take(data)


def forget(folder: Path, number: int) -> None:
    """Remove from *folder* what the process *number* left there, where it was killed."""
    _path(folder, str(number)).unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    return folder / PATTERN.replace("*", name)
