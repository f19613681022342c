# SPDX-License-Identifier: Apache-2.0
"""Who calls? The schemes by which the API's users say that; `wsgi` chooses one. No I/O but that of the store."""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import TOKEN, Credentials, Uses, caller_of
from cyborg_reconciler.conductor.secrets import hash_of
from cyborg_reconciler.errors import ForbiddenError, UnauthenticatedError
from cyborg_reconciler.stores import Credential

#: Who calls where nobody is asked who he is.
LOCAL: Final = Caller("local", Role.ADMIN)

#: Returns who calls, by the header Authorization and the address that the request came from.
Scheme = Callable[[str | None, str], Caller]

#: So many valid tokens are believed at a time; beyond that, the one longest unasked is asked for again.
BELIEVED: Final = 4096


def nobody_is_asked(_authorization: str | None, peer: str) -> Caller:
    """Let everybody on this machine do everything, and nobody else anything.

    Raises:
        ForbiddenError: the request came from elsewhere.
    """
    if peer and not is_loopback(peer):
        raise ForbiddenError(
            wanted="a request from this machine",
            found=f"it came from {peer}, and `auth` is none",
            remedy="set auth to token",
        )
    return LOCAL


@functools.lru_cache(maxsize=256)
def is_loopback(address: str) -> bool:
    """Return whether *address* is this machine's own; asked with each request, and of few addresses."""
    return ip_address(address).is_loopback


class TokenScheme:
    """Asks for a bearer token. Unknown, expired and revoked ones are answered alike.

    What a token opens is asked of the database again after *cache_s* seconds.
    """

    def __init__(
        self, credentials: Credentials, uses: Uses, cache_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials, self._uses, self._cache_s, self._clock_s = credentials, uses, cache_s, clock_s
        self._lock = threading.Lock()
        #: What a token opens, by its digest, and when it was looked up.
        self._believed: OrderedDict[str, tuple[Credential, float]] = OrderedDict()

    def __call__(self, authorization: str | None, _peer: str) -> Caller:
        """Return who calls.

        Raises:
            UnauthenticatedError: there is no token, or none that opens anything.
        """
        one = self._valid(token_of(authorization), self._clock_s())
        if one is None:
            raise UnauthenticatedError(found="there is no valid token")
        return caller_of(one)

    def _valid(self, token: str | None, now_s: float) -> Credential | None:
        """Return what is kept of *token* if it opens anything; what was looked up lately is believed."""
        if token is None:
            return None
        digest = hash_of(token)
        now = self._credentials.clock.now()
        with self._lock:
            one, looked_up_s = self._believed.get(digest, (None, 0.0))
        is_believed = one is not None and now_s - looked_up_s < self._cache_s
        if not is_believed:
            one = self._credentials.find(digest)
            self._believe(digest, one, now_s)
        if one is None or one.status(now) != "valid":
            return None
        if not is_believed:
            self._uses.note(one, now)
        return one

    def _believe(self, digest: str, one: Credential | None, now_s: float) -> None:
        """Keep what was found under *digest* for a while; that there is nothing is not kept, for there may be soon."""
        with self._lock:
            self._believed.pop(digest, None)
            if one is not None:
                self._believed[digest] = (one, now_s)
            if len(self._believed) > BELIEVED:
                self._believed.popitem(last=False)


def token_of(authorization: str | None) -> str | None:
    """Return the token that the header Authorization has; None where it has none that could be one of ours.

    >>> token_of("Basic eA==") is None, token_of("bearer cyu_" + "x" * 43)
    (True, 'cyu_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and TOKEN.fullmatch(token) else None
