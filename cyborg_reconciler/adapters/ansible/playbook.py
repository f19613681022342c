# SPDX-License-Identifier: Apache-2.0
"""ansible-playbook that does not outlive who started it. Run by `child` as ``python -m …playbook PID ARGUMENT…``.

When the child is killed nobody is left who would end Ansible, and it would go on changing hosts.
"""

import ctypes
import os
import signal
import sys
from typing import Final

#: The kernel sends this process a signal when its parent ends; that outlasts execve. Source: prctl(2).
PR_SET_PDEATHSIG: Final = 1


def main(parent: int, arguments: list[str]) -> None:
    """Become ansible-playbook, for as long as *parent* lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == parent:  # else it ended before the kernel was asked
        os.execv(sys.executable, [sys.executable, "-P", "-m", "ansible", "playbook", *arguments])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
