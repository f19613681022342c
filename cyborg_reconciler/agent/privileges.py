# SPDX-License-Identifier: Apache-2.0
"""How does an agent that root started become nobody in particular, and still read what only root can?

The unit that the role installs never starts it as root; this is for what has no systemd, such as containers. Does I/O:
system calls. Source: capabilities(7), capget(2), prctl(2); Linux, include/uapi/linux/capability.h.
"""

import ctypes
import logging
import os
import pwd
from pathlib import Path
from typing import Final

from cyborg_reconciler.errors import SettingsInvalidError

LOG: Final = logging.getLogger(__name__)

#: To read files and list folders whatever their mode; to see what other users' processes have open.
CAP_DAC_READ_SEARCH: Final = 2
CAP_SYS_PTRACE: Final = 19
KEPT: Final = (1 << CAP_DAC_READ_SEARCH) | (1 << CAP_SYS_PTRACE)
#: Version 3 of the interface: two words of 32 bits for each set.
CAPABILITY_VERSION: Final = 0x20080522
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
LAST_CAPABILITY: Final = 63


def drop(user: str) -> None:
    """Become *user*, who may read everything and write nothing. Does nothing where the process is not root's.

    Raises: SettingsInvalidError where there is no such user, or the kernel refuses.
    """
    if os.geteuid() != 0:
        return
    if not user:
        LOG.warning("the agent runs as root, which it does not need: set user, or start it by its unit")
        return
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise SettingsInvalidError(wanted="a user for the agent", found=f"there is no user {user}") from None
    try:
        kept = _permitted() & KEPT
        _become(account.pw_uid, account.pw_gid, kept)
    except OSError as exc:
        raise SettingsInvalidError(wanted=f"to run as {user}", found=exc.strerror or str(exc)) from exc
    if kept == KEPT:
        LOG.info("the agent runs as %s, with the right to read", user)
    else:
        LOG.warning("the agent runs as %s without CAP_DAC_READ_SEARCH or CAP_SYS_PTRACE, so not all can be read", user)


def _permitted() -> int:
    """Return the capabilities that this process has to give: in a container root may have few. Source: proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:")), 0)


def _become(uid: int, gid: int, kept: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(LAST_CAPABILITY + 1):
        if not kept >> capability & 1:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # one that this kernel does not know is refused: fine
    _checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable; then the upper words
    _checked(libc.capset(header, sets))
    for capability in (CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE):  # the tools that readers call need it too
        if kept >> capability & 1:
            _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
