# SPDX-License-Identifier: Apache-2.0
"""Who calls? The schemes by which the API's users say that; `wsgi` chooses one. No I/O but that of the store."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.errors import ForbiddenError

#: Who calls where nobody is asked who he is.
LOCAL: Final = Caller("local", Role.ADMIN)

#: Returns who calls, by the header Authorization and the address that the request came from.
Scheme = Callable[[str | None, str], Caller]


def nobody_is_asked(_authorization: str | None, peer: str) -> Caller:
    """Let everybody on this machine do everything, and nobody else anything.

    Raises:
        ForbiddenError: the request came from elsewhere.
    """
    if peer and not ip_address(peer).is_loopback:
        raise ForbiddenError(
            wanted="a request from this machine",
            found=f"it came from {peer}, and `auth` is none",
            remedy="set auth to token",
        )
    return LOCAL
