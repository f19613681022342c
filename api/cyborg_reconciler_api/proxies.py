# SPDX-License-Identifier: Apache-2.0
"""From which address does a request come, when a proxy passes it on? Wrapped around the application by `wsgi`.

No I/O. Only what a trusted proxy says is believed: everybody can send the header.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Network = IPv4Network | IPv6Network


def behind(app: WSGIApplication, trusted: Sequence[str]) -> WSGIApplication:
    """Return *app*, for which requests that came through *trusted* proxies come from where those say."""
    networks = [ip_network(one) for one in trusted]

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said = environ.get("HTTP_X_FORWARDED_FOR", "")
        environ["REMOTE_ADDR"] = origin(environ.get("REMOTE_ADDR", ""), said, networks)
        return app(environ, start_response)

    return answer if networks else app


def origin(peer: str, said: str, trusted: Sequence[Network]) -> str:
    """Return where a request came from: the last address before those of *trusted* proxies.

    *said*: the header X-Forwarded-For, to which each proxy adds the address that it was called from. What is no address
    was not added by one, and what stands before it is not believed either.

    >>> ours = [ip_network("10.0.0.0/8")]
    >>> origin("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", ours), origin("203.0.113.9", "127.0.0.1", ours)
    ('198.51.100.7', '203.0.113.9')
    """
    found = peer
    for hop in reversed(said.split(",")):
        if not _is_of(found, trusted):
            return found
        try:
            found = str(ip_address(hop.strip()))
        except ValueError:
            return found
    return found


def _is_of(address: str, networks: Sequence[Network]) -> bool:
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)
