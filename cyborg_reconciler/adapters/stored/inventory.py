# SPDX-License-Identifier: Apache-2.0
"""Which hosts are there? Those of the inventory, and those of which nothing but their agents' reports is known."""

from collections.abc import Sequence
from datetime import timedelta

from cyborg_reconciler.core.state import Host
from cyborg_reconciler.errors import InventoryUnreadableError
from cyborg_reconciler.ports import Clock, Inventory, Journal


class KnownHosts:
    """The hosts of an inventory and, after them, those that only the journal knows.

    Args:
        max_age: a host whose agent was not heard for longer is not among them.
        is_optional: there may be no inventory at all.
    """

    def __init__(
        self, listed: Inventory, journal: Journal, clock: Clock, max_age: timedelta, *, is_optional: bool
    ) -> None:
        self._listed, self._journal, self._clock = listed, journal, clock
        self._max_age, self._is_optional = max_age, is_optional

    def hosts(self) -> Sequence[Host]:
        """Return the hosts.

        Raises:
            InventoryUnreadableError: the inventory cannot be read, and there has to be one, or no agent reports.
        """
        reporting = sorted(self._journal.reported(self._clock.now() - self._max_age))
        try:
            listed = self._listed.hosts()
        except InventoryUnreadableError:
            if not (self._is_optional and reporting):
                raise
            listed = ()
        names = {host.name for host in listed}
        return (*listed, *(Host(name, connection=False) for name in reporting if name not in names))
