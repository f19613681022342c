# SPDX-License-Identifier: Apache-2.0
"""What do policies that somebody wrote declare of a host's devices and drivers now, and is that what a look went by?

Asked by `accelerators` and `drivers` before a wish is taken, by `offering` and `settling` before they write what a look
says. The API's policies are as they are in the database, the tree's as the loop recorded them last, hosts by the facts
that are kept of them. All I/O goes through the stores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from cyborg_reconciler.core.resolve import Compiled, compile_policies, resolve
from cyborg_reconciler.core.rules import HostRules
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.declared import IMPLIED_PLACE, Declared
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import DeclarationsInvalidError, FactsUnreadableError
from cyborg_reconciler.ports import Declarations
from cyborg_reconciler.survey import HostView


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

    def since(self, declared: Declared) -> "Since":
        """Return what tells whether something else is declared by now than *declared*, by which a look went.

        What is to be judged by it must have been read before: a wish that came in between has changed its version.

        Raises:
            JournalError: the database cannot be used.
        """
        try:
            now = self._compiled()
        except DeclarationsInvalidError:  # nothing is done until that is mended; what was seen goes meanwhile
            return Since()
        written = tuple(one for one in declared.policies if one.file != IMPLIED_PLACE)
        if [one.document for one in written] == [one.document for one in now.declared.policies]:
            return Since()
        return Since((compile_policies(replace(declared, policies=written)), now))

    def _compiled(self) -> Compiled:
        stamp, known = self._declarations.stamp(), self._known  # the stamp first: what comes later is seen next time
        if known is None or known[0] != stamp:
            known = self._known = stamp, compile_policies(self._declarations.read())
        return known[1]


@dataclass(frozen=True, slots=True)
class Since:
    """What somebody wrote, as a look went by it and as it is *now*; None where that is the same, or cannot be told.

    Where that differs of something, what the look says of it does not count: the next pass goes by what is declared.
    """

    then_and_now: tuple[Compiled, Compiled] | None = None
    _rules: dict[str, list[HostRules]] = field(default_factory=dict)

    def differs_of_device(self, view: HostView, address: str) -> bool:
        """Return whether something else is declared by now of the state or the binding of a device of *view*'s host."""
        return self._differs(view, lambda rules: rules.of_device(address))

    def differs_of_driver(self, view: HostView, name: str) -> bool:
        """Return whether something else is declared by now of a driver on *view*'s host."""
        return self._differs(view, lambda rules: rules.of_driver(name))

    def _differs(self, view: HostView, said: Callable[[HostRules], object]) -> bool:
        if self.then_and_now is None or view.subject is None:
            return False
        host, subject = view.host, view.subject
        if host.name not in self._rules:
            self._rules[host.name] = [HostRules(resolve(one, host, subject), subject) for one in self.then_and_now]
        then, now = map(said, self._rules[host.name])
        return then != now
