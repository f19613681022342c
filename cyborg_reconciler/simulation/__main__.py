# SPDX-License-Identifier: Apache-2.0
"""The process that plays the kernel of one host: ``python -m cyborg_reconciler.simulation ROOT``.

Answers one JSON line for each that it is sent, at ``ROOT/run/kernel.sock``:

- ``{"write": "/sys/…", "value": "4"}`` → ``{"errno": 0}`` or ``{"errno": 16, "text": "…"}``
- ``{"run": ["modprobe", "igb"], "cwd": "/"}`` → ``{"rc": 0, "stdout": "", "stderr": ""}``
- ``{"hold": "0000:6b:00.1", "name": "qemu-system-x86"}`` → ``{"errno": 0, "pid": 4711}``
- ``{"release": 4711}`` → ``{"errno": 0}``

Ends when its standard input does, so that it never outlives the process that started it. Standard library only.
"""

import contextlib
import errno
import json
import os
import socketserver
import sys
import threading
from typing import Any, ClassVar

from cyborg_reconciler.simulation import boot
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

#: Nobody asks the server to stop, so it has nothing to look for in between.
POLL_INTERVAL_S = 3600.0


class Requests(socketserver.StreamRequestHandler):
    """One connection: any number of requests, one after the other."""

    kernel: ClassVar[Kernel]

    def handle(self) -> None:
        """Answer until the other side has no more to ask."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for line in self.rfile:
                self.wfile.write(json.dumps(self.answer(line)).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """Return the answer to one request; an error of the kernel is an answer like others."""
        try:
            return self.serve(json.loads(line))
        except OSError as exc:
            return {"errno": exc.errno or errno.EIO, "text": exc.strerror or str(exc)}
        except (ValueError, KeyError, TypeError) as exc:
            return {"errno": errno.EINVAL, "text": f"not a request: {exc}", "rc": 1, "stdout": "", "stderr": str(exc)}

    def serve(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks."""
        if "write" in request:
            self.kernel.write(request["write"], request["value"])
        elif "run" in request:
            result = run(self.kernel, request["run"])
            return {"rc": result.rc, "stdout": result.stdout, "stderr": result.stderr}
        elif "hold" in request:
            return {"errno": 0, "pid": self.kernel.hold(request["hold"], request["name"])}
        elif "release" in request:
            self.kernel.release(request["release"])
        else:
            message = "write, run, hold or release"
            raise KeyError(message)
        return {"errno": 0}


class Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each connection: a unit's program may write while the tool that started it waits."""

    daemon_threads = True


def main(root: str) -> None:
    """Serve the host at *root* until standard input ends."""
    kernel = Kernel(Tree(root))
    if boot.is_interrupted(kernel.tree):
        kernel.boot()
    os.chdir(kernel.tree.path("/run"))  # the path of a socket is limited to 108 bytes, that of a tree is not
    with contextlib.suppress(FileNotFoundError):
        os.unlink(boot.SOCKET)
    Requests.kernel = kernel
    with Server(boot.SOCKET, Requests) as server:
        os.chdir("/")
        threading.Thread(target=server.serve_forever, args=(POLL_INTERVAL_S,), daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()
    kernel.tree.remove(f"/run/{boot.SOCKET}")


if __name__ == "__main__":
    main(sys.argv[1])
