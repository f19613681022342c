# SPDX-License-Identifier: Apache-2.0
"""How are tokens made and kept? Random, and hashed: what is stored opens nothing. Asks for randomness, and no more."""

import hashlib
import hmac
import re
import secrets
from typing import Final

#: Bytes of randomness in a token: no one guesses it, so that a plain hash of it is enough.
TOKEN_BYTES: Final = 32

#: By these a scanner of files knows a token that went astray: a user's, an agent's, an enrolment's.
USER: Final = "cyu"
AGENT: Final = "cya"
ENROLMENT: Final = "cye"

#: What is a token, whoever's: one expression without alternatives, which is looked for in every path.
ANY_TOKEN: Final = re.compile(rf"cy[{USER[-1]}{AGENT[-1]}{ENROLMENT[-1]}]_[A-Za-z0-9_-]{{43}}")


def new_token(prefix: str) -> str:
    """Return a new token; its *prefix* tells people and scanners what it is."""
    return f"{prefix}_{secrets.token_urlsafe(TOKEN_BYTES)}"


def without_tokens(text: str) -> str:
    """Return *text* with the tokens in it left out.

    >>> without_tokens("/v1/" + "cya_" + "x" * 43)
    '/v1/cya_…'
    """
    return ANY_TOKEN.sub(lambda found: f"{found[0][:4]}…", text)


def hash_of(token: str) -> str:
    """Return what is kept of a token: its sha256, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Compare two hashes in constant time; an empty one is like no other."""
    return bool(one) and bool(other) and hmac.compare_digest(one, other)
