# SPDX-License-Identifier: Apache-2.0
"""What do policies that somebody wrote declare of a host's devices and drivers now? Asked before a wish is taken.

Called by `accelerators` and `drivers`. The API's policies are as they are
in the database, the tree's as the loop recorded them last, hosts by the facts that are kept of them. All I/O goes
through the stores.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cyborg_reconciler.core.resolve import Compiled, compile_policies, resolve
from cyborg_reconciler.core.rules import HostRules
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import DeclarationsInvalidError, FactsUnreadableError
from cyborg_reconciler.ports import Declarations


class KeptHosts(Protocol):
    """What is kept of hosts, as far as policies select by it."""

    def hosts(self, names: Sequence[str]) -> Mapping[str, Host]:
        """Return those of the hosts called *names* that were ever in the inventory."""

    def facts(self, names: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of hosts, and when they came in."""


class Rules:
    """The policies of now, made ready once for each state of them. Safe to call from many threads."""

    def __init__(self, declarations: Declarations, hosts: KeptHosts) -> None:
        self._declarations, self._hosts = declarations, hosts
        self._known: tuple[str, Compiled] | None = None

    def of(self, host: str) -> HostRules | None:
        """Return what is declared of *host*.

        None where that cannot be told: no facts of it are kept, or what is declared contradicts itself, and nothing is
        done until that is mended. Whoever asks then goes by what the last pass has noted.

        Raises:
            JournalError: the database cannot be used.
        """
        kept = self._hosts.facts([host]).get(host)
        if kept is None:
            return None
        try:
            compiled = self._compiled()
            subject = lay_out(decode_facts(kept[0]), compiled.catalogue)
        except (DeclarationsInvalidError, FactsUnreadableError):
            return None
        place = self._hosts.hosts([host]).get(host, Host(host))
        return HostRules(resolve(compiled, place, subject), subject)

    def _compiled(self) -> Compiled:
        stamp, known = self._declarations.stamp(), self._known  # the stamp first: what comes later is seen next time
        if known is None or known[0] != stamp:
            known = self._known = stamp, compile_policies(self._declarations.read())
        return known[1]
