# SPDX-License-Identifier: Apache-2.0
"""Which tokens do the users of the API have? Made, found, revoked.

Called by the command line, which makes them, and by the API, which is shown them. All I/O goes through the store.

A token is 256 random bits. Its SHA-256 is kept, without salt and without stretching: those slow down who guesses what
people think up, and nobody guesses this. So a token is found by the index on its digest, at the cost of one hash, and
who reads the database has none that works.
"""

import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.later import Later
from cyborg_reconciler.conductor.secrets import USER, hash_of, is_same, new_token
from cyborg_reconciler.errors import ConflictError, FieldError, NotFoundError, RequestInvalidError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.credentials import Credential, CredentialStore, RoleName

#: What a token looks like; anything else is none, and is not looked for.
TOKEN: Final = re.compile(rf"{USER}_[A-Za-z0-9_-]{{43}}")

#: What a token, and a project, may be called: it stands in the audit trail, where others read it.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

#: When a token was used last is kept to within so much, and written together with others after so many seconds.
USE_PRECISION: Final = timedelta(minutes=5)
USES_TOGETHER_S: Final = 10.0

#: Who is called so in the audit trail is no user.
RESERVED: Final = {"local", "anybody", "agent"}


def check_name(name: str) -> str:
    """Return *name* if a token, or a project, can be called so.

    Raises:
        RequestInvalidError: it cannot.
    """
    if NAME.fullmatch(name) and name not in RESERVED:
        return name
    wrong = f"{name!r} is no name: up to 64 letters, digits and . _ @ -, beginning with a letter or a digit"
    raise RequestInvalidError("the name", [FieldError("name", wrong)])


@dataclass(frozen=True, slots=True)
class Credentials:
    """The users' tokens."""

    store: CredentialStore
    clock: Clock

    def create(
        self, caller: Caller, name: str, role: RoleName, project_id: str | None, lifetime: timedelta | None
    ) -> tuple[Credential, str]:
        """Make a token, and return it with what is kept of it. Nobody can say it again.

        Raises:
            RequestInvalidError: it cannot be called so. ConflictError: another one is, or was.
        """
        for called in (name, project_id):
            if called is not None:
                check_name(called)
        token, now = new_token(USER), self.clock.now()
        one = Credential(
            name=name,
            role=role,
            digest=hash_of(token),
            created_at=now,
            project_id=project_id,
            expires_at=None if lifetime is None else now + lifetime,
        )
        expires = one.expires_at.isoformat() if one.expires_at else None
        given = {"token": name, "role": role, "project_id": project_id, "expires_at": expires}
        event = Event(now, "TokenCreated", message=f"{caller.name}: {name}", data={**caller.trace(), "after": given})
        self.store.add_credential(one, event)
        return one, token

    def revoke(self, caller: Caller, name: str) -> None:
        """Have the token called *name* open nothing any more.

        Raises:
            NotFoundError: no token is called so. ConflictError: it is revoked already.
        """
        now = self.clock.now()
        event = Event(now, "TokenRevoked", message=f"{caller.name}: {name}", data={**caller.trace(), "token": name})
        if self.store.revoke_credential(name, now, event):
            return
        if any(one.name == name for one in self.store.credentials()):
            raise ConflictError(wanted=f"to revoke the token {name}", found="it is revoked already")
        raise NotFoundError(wanted=f"a token called {name}", found="there is none", remedy="see `token list`")

    def find(self, digest: str) -> Credential | None:
        """Return what is kept of the token with *digest*, whether or not it still opens anything; None: nothing is."""
        found = self.store.credential(digest)
        return found if found is not None and is_same(found.digest, digest) else None


def caller_of(one: Credential) -> Caller:
    """Return who calls with the token that *one* is kept of."""
    return Caller(one.name, Role[one.role.upper()], one.project_id)


class Uses:
    """When tokens were used last. Safe to call from many threads; `close` writes what is still to be written."""

    def __init__(self, store: CredentialStore, together_s: float = USES_TOGETHER_S) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._used: dict[str, datetime] = {}
        self._later = Later(self.flush, together_s)

    def note(self, one: Credential, now: datetime) -> None:
        """Note that the token of which *one* was read is used *now*, unless that is known well enough."""
        if one.last_used_at is not None and now - one.last_used_at < USE_PRECISION:
            return
        with self._lock:
            self._used[one.name] = now
        self._later.ask()

    def flush(self) -> None:
        """Write what was noted."""
        with self._lock:
            used, self._used = self._used, {}
        if used:
            self._store.record_uses(used)

    def close(self) -> None:
        """Write what is still to be written."""
        self._later.close()
