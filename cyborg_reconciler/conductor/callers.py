# SPDX-License-Identifier: Apache-2.0
"""Who calls, and what may he do? Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Role(enum.IntEnum):
    """What a caller may do: each includes the ones before. Source: OpenStack's default roles."""

    READER = 1
    MEMBER = 2
    MANAGER = 3
    ADMIN = 4

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: for the audit trail.
        project_id: whose accelerators a member may change; None for one of no project.
        request_id: in which request; empty at the command line.
    """

    name: str
    role: Role
    project_id: str | None = None
    request_id: str = ""

    @property
    def project(self) -> str:
        """The project that what he attaches belongs to; one of no project is a project of his own."""
        return self.project_id or self.name

    def trace(self) -> Mapping[str, str]:
        """Return what every entry of the audit trail says of who caused it."""
        return {"by": self.name, "role": str(self.role), "project": self.project, "request_id": self.request_id}
