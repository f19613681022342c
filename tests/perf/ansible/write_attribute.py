# SPDX-License-Identifier: Apache-2.0
"""What ``echo VALUE > ATTRIBUTE`` is on a host, for a simulated one: ``write_attribute.py ROOT ATTRIBUTE VALUE``.

The role of eight tasks runs it; the host's kernel answers at its socket.
"""

import json
import os
import socket
import sys


def main(root: str, attribute: str, value: str) -> int:
    """Write *value*; return the kernel's error number."""
    os.chdir(f"{root}/run")  # the path of a socket is limited to 108 bytes, that of a tree is not
    with socket.socket(socket.AF_UNIX) as kernel, kernel.makefile("rb") as answers:
        kernel.connect("kernel.sock")
        kernel.sendall(json.dumps({"write": attribute, "value": value}).encode() + b"\n")
        return int(json.loads(answers.readline())["errno"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
