# SPDX-License-Identifier: Apache-2.0
"""What does a running QEMU say, and how is it told to do something?

Called by `guest` and `snapshot`. Talks QMP over the guest's own socket.
Source: QEMU, docs/interop/qmp-spec.rst.
"""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ANSWER_TIMEOUT_S = 120.0


class QmpError(Exception):
    """QEMU refused a command, or closed the connection."""


class Qmp:
    """A connection to one QEMU.

    Attributes:
        events: all that QEMU reported since the connection began, oldest first; complete as of the last command.
    """

    def __init__(self, path: Path) -> None:
        self.events: list[Mapping[str, Any]] = []
        self._unread = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
            self._read_message(time.monotonic() + ANSWER_TIMEOUT_S)  # the greeting
            self.command("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; QEMU goes on."""
        self._socket.close()

    def command(self, name: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Carry out *name* and return its answer, whose shape is each command's own.

        Raises:
            QmpError: QEMU refused it, or is gone.
        """
        self._send({"execute": name, "arguments": dict(arguments or {})})
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            message = self._read_message(deadline)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(f"{name}: {message['error']['desc']}")
            else:
                return message["return"]

    def monitor(self, line: str) -> str:
        """Return what the human monitor answers to *line*."""
        return str(self.command("human-monitor-command", {"command-line": line}))

    def wait_event(self, name: str, timeout_s: float, **data: object) -> None:
        """Wait until QEMU reports the event *name* with all of *data* in it; one reported before counts as well."""
        deadline = time.monotonic() + timeout_s
        while not any(_matches(event, name, data) for event in self.events):
            message = self._read_message(deadline)
            if "event" in message:
                self.events.append(message)

    def _send(self, message: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"QEMU is gone: {error}") from error

    def _read_message(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._unread:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError as error:
                raise QmpError("QEMU did not answer in time") from error
            except OSError as error:
                raise QmpError(f"QEMU is gone: {error}") from error
            if not chunk:
                raise QmpError("QEMU closed the connection")
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


def _matches(event: Mapping[str, Any], name: str, data: Mapping[str, object]) -> bool:
    return bool(event["event"] == name and data.items() <= event.get("data", {}).items())
