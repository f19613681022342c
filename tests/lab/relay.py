# SPDX-License-Identifier: Apache-2.0
"""How does what a guest says to its conductor come to a port on this machine?

QEMU starts it for each connection, with the connection as its standard input and output, and the file that names the
port as its argument. It ends, and so cuts the connection, when either side ends, or where nobody listens. Does I/O.
"""

import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

GUEST_IN, GUEST_OUT = 0, 1
CHUNK_BYTES = 65536


def carry(port: int) -> None:
    """Carry what comes from either side to the other."""
    with socket.create_connection(("127.0.0.1", port)) as conductor:

        def carry_answers() -> None:
            with suppress(OSError):
                while answer := conductor.recv(CHUNK_BYTES):
                    while answer:
                        answer = answer[os.write(GUEST_OUT, answer) :]
            os._exit(0)

        threading.Thread(target=carry_answers, daemon=True).start()
        while question := os.read(GUEST_IN, CHUNK_BYTES):
            conductor.sendall(question)


if __name__ == "__main__":
    with suppress(OSError, ValueError):
        carry(int(Path(sys.argv[1]).read_text()))
