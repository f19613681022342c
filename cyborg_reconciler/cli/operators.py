# SPDX-License-Identifier: Apache-2.0
"""Who types a command that lets others in, and for how long? Shared by the commands about tokens and agents."""

import os
import pwd
import re
from datetime import timedelta
from typing import Any, Final

import click

from cyborg_reconciler.conductor.callers import Caller, Role

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[timedelta]):
    """A time such as 30m, 12h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401 - click's own
        """Return it as Python has it."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r} is no time: write 30m, 12h or 7d", param, ctx)
        return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def operator() -> Caller:
    """Return who types, for the audit trail: whoever may write the database may do everything."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Caller(f"{name} (command line)", Role.ADMIN)
