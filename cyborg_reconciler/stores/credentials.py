# SPDX-License-Identifier: Apache-2.0
"""What the API keeps of its users' tokens, and what it asks of the database for that.

No I/O in here; the database's adapter fills the Protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from cyborg_reconciler.ports import Event

#: What a user of the API may do; each includes the ones before.
RoleName = Literal["reader", "member", "manager", "admin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token of a user of the API, as it is kept: what it opens, and never the token itself.

    Attributes:
        name: unique among all that there ever were, since the audit trail names them.
        digest: the token's SHA-256, in hexadecimal digits.
        project_id: whose accelerators a member may change; None: of no project.
        expires_at: None: never. revoked_at: None: it is not.
        last_used_at: to within some minutes; None: never.
    """

    name: str
    role: RoleName
    digest: str
    created_at: datetime
    project_id: str | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def status(self, now: datetime) -> Literal["valid", "expired", "revoked"]:
        """Return whether it opens anything at *now*."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class CredentialStore(Protocol):
    """The users' tokens. Every method raises JournalError (or a subclass) when the database cannot be used."""

    def credentials(self) -> Sequence[Credential]:
        """Return all of them, by name."""

    def credential(self, digest: str) -> Credential | None:
        """Return the one whose token has *digest*."""

    def add_credential(self, one: Credential, event: Event) -> None:
        """Keep a new one, and tell of it, in one transaction.

        Raises:
            ConflictError: its name is taken.
        """

    def revoke_credential(self, name: str, at: datetime, event: Event) -> bool:
        """Revoke the one called *name*, and tell of it; return whether there is one that was not revoked yet."""

    def record_uses(self, used: Mapping[str, datetime]) -> None:
        """Keep when each was used last, by name; what is known to be later stays."""
