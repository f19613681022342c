# SPDX-License-Identifier: Apache-2.0
"""By which credential does the conductor open the port of a host's agent, and what of it does the host hold? Pure.

Called by what calls agents, by the CLI, and by the agent. The collection's filter `port_digest` says the same on an
Ansible controller; a test compares them.
"""

import hashlib
import hmac
from typing import Final

#: Of another purpose, or of another way to derive it, the same secret makes other credentials.
CONTEXT: Final = b"cyborg-reconciler agent port v1\0"
#: Whoever owns a host can try secrets against what it holds, as fast as he likes: a word that somebody thought up is
#: found by that. `openssl rand -hex 16` has as many.
SECRET_CHARACTERS: Final = 32


def port_credential(secret: str, host: str) -> str:
    """Return what the conductor that has *secret* shows to the agent of *host*, and to no other.

    Shape: 64 lower-case hex digits. *host* is the inventory's name of it, to the letter: two names are two hosts there,
    though one is the other in capitals.

    Source: RFC 2104 (HMAC), with SHA-256.
    """
    return hmac.new(secret.encode(), CONTEXT + host.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def port_digest(credential: str) -> str:
    """Return what a host holds of *credential*: it tells who shows it, and cannot be shown itself."""
    return f"sha256:{hashlib.sha256(credential.encode('utf-8', 'surrogatepass')).hexdigest()}"
