# SPDX-License-Identifier: Apache-2.0
"""What is kept of users' tokens, as the store has it: each method is one transaction, on disk when it returns.

Opened by `bootstrap`, called by the conductor. Works in the journal's database.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from cyborg_reconciler.adapters.database import credential_rows
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.errors import ConflictError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.credentials import Credential


class DatabaseCredentials:
    """The users' tokens, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def credentials(self) -> Sequence[Credential]:
        """Return the users' tokens, by name."""
        with reading(self._engine) as connection:
            return credential_rows.read_all(connection)

    def credential(self, digest: str) -> Credential | None:
        """Return the user's token that has *digest*."""
        with reading(self._engine) as connection:
            return credential_rows.read(connection, digest)

    def add_credential(self, one: Credential, event: Event) -> None:
        """Keep a new token."""
        try:
            with writing(self._engine) as connection:
                credential_rows.insert(connection, one)
                put_event(connection, event)
        except IntegrityError as exc:
            raise ConflictError(
                wanted=f"a token called {one.name}",
                found="there is one already, or there was",
                remedy="choose another name",
            ) from exc

    def revoke_credential(self, name: str, at: datetime, event: Event) -> bool:
        """Revoke a token."""
        with writing(self._engine) as connection:
            is_revoked = credential_rows.revoke(connection, name, at)
            if is_revoked:
                put_event(connection, event)
        return is_revoked

    def record_uses(self, used: Mapping[str, datetime]) -> None:
        """Keep when tokens were used last."""
        with writing(self._engine) as connection:
            credential_rows.put_uses(connection, used)
