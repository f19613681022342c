# SPDX-License-Identifier: Apache-2.0
"""ansible-playbook that does not outlive who started it. Run by `child` as ``python -m …playbook PID ARGUMENT…``.

When the child is killed nobody is left who would end Ansible, and it would go on changing hosts.
"""

import ctypes
import gc
import os
import runpy
import signal
import sys
from typing import Final

#: The kernel sends this process a signal when its parent ends. Source: prctl(2).
PR_SET_PDEATHSIG: Final = 1
#: What `ansible-playbook` starts.
PROGRAM: Final = "ansible.cli.playbook"
#: So many more objects before Python looks for garbage: Ansible makes hundreds of thousands at its start, to keep.
GC_AFTER: Final = 100_000


def main(parent: int, arguments: list[str]) -> None:
    """Become ansible-playbook, for as long as *parent* lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() == parent:  # else it ended before the kernel was asked
        gc.set_threshold(GC_AFTER)
        sys.argv = ["ansible-playbook", *arguments]
        runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
