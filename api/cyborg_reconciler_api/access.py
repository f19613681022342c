# SPDX-License-Identifier: Apache-2.0
"""Who calls? The schemes by which the API's users say that; `wsgi` chooses one. No I/O but that of the store."""

import functools
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import TOKEN, Credentials, Uses, caller_of
from cyborg_reconciler.conductor.secrets import hash_of
from cyborg_reconciler.documents.wording import printable
from cyborg_reconciler.errors import ForbiddenError, UnauthenticatedError
from cyborg_reconciler.stores.credentials import Credential

#: Who calls where nobody is asked who he is.
LOCAL: Final = Caller("local", Role.ADMIN)

#: The header Host: a name or an address, and a port.
HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:@/\[\]]+)(:[0-9]+)?")

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


def check_sender(host: str, origin: str, site: str) -> None:
    """Let no page of somebody else's speak for whoever looks at it, where nobody is asked who he is.

    *host*, *origin*, *site*: the headers Host, Origin and Sec-Fetch-Site; empty where they are not sent, as no browser
    does where it matters. Source: OWASP, CSRF Prevention Cheat Sheet; W3C, Fetch Metadata Request Headers.

    Raises:
        ForbiddenError: the server is called by a name that others may have given it (DNS rebinding), or by such a page.
    """
    if host and not _is_here(host):
        found = f"the request is for {printable(host)}, and `auth` is none"
        remedy = "call it by localhost or a loopback address, or set auth to token"
    elif site == "cross-site" or (origin and origin.partition("://")[2].lower() != host.lower()):
        found = f"a page of {printable(origin) or 'another site'} sends it, and `auth` is none"
        remedy = "use the server's own page, or set auth to token"
    else:
        return
    raise ForbiddenError(wanted="a request of whoever works on this machine", found=found, remedy=remedy)


@functools.lru_cache(maxsize=256)
def _is_here(host: str) -> bool:
    """Return whether the header Host has a name of this machine that nobody else can give.

    >>> [_is_here(host) for host in ("localhost:6670", "127.0.0.1", "[::1]:6670")]
    [True, True, True]
    >>> [_is_here(host) for host in ("localhost.example:80", "192.0.2.7", "127.0.0.1.example", "::1", "a@localhost")]
    [False, False, False, False, False]
    """
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = found["name"].strip("[]").lower()
    try:
        return name == "localhost" or is_loopback(name)
    except ValueError:
        return False


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
