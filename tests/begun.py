# SPDX-License-Identifier: Apache-2.0
"""What tests ask of runs that have begun."""

from collections.abc import Mapping

from cyborg_reconciler.ports import BegunRun


def uuid_of(begun: Mapping[str, BegunRun]) -> str:
    """The one run that all of the hosts have."""
    (one,) = {run.uuid for run in begun.values()}
    return one
