# SPDX-License-Identifier: Apache-2.0
"""What would this program do on this host? Every tool of a tree starts this, and it asks the kernel's process.

Run as ``client.py NAME ARGUMENTS…`` from a tree's ``/usr/lib/simulation``, where `disk` copies it. Imports nothing of
ours.
"""

import json
import os
import socket
import sys


def main() -> int:
    """Take the words to the kernel's process, print what it answers, return its status."""
    root = os.path.abspath(f"{os.path.dirname(os.path.abspath(__file__))}/../../..")
    request = {"run": sys.argv[1:], "cwd": os.getcwd()}
    os.chdir(f"{root}/run")  # the path of a socket is limited to 108 bytes, that of a tree is not
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as kernel:
        try:
            kernel.connect("kernel.sock")
        except OSError as exc:
            print(f"{sys.argv[1]}: the simulated host is down: {exc}", file=sys.stderr)  # noqa: T201 -- a program's output
            return 1
        kernel.sendall(json.dumps(request).encode() + b"\n")
        with kernel.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        print(f"{sys.argv[1]}: the simulated host went down", file=sys.stderr)  # noqa: T201 -- a program's output
        return 1
    answer = json.loads(line)
    sys.stdout.write(answer["stdout"])
    sys.stderr.write(answer["stderr"])
    return int(answer["rc"])


if __name__ == "__main__":
    sys.exit(main())
