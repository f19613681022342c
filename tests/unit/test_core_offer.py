# SPDX-License-Identifier: Apache-2.0
"""Which accelerators that a driver of an agent alone tells of are ready?"""

import pytest

from cyborg_reconciler.core.accelerators import Unit
from cyborg_reconciler.core.offer import offer_told
from cyborg_reconciler.core.state import Health


@pytest.mark.parametrize(
    ("said", "is_installed", "state"),
    [
        ({}, True, "ready"),
        ({}, False, "inactive"),
        ({"setup_required": True}, True, "inactive"),
        ({"reboot_required": True}, True, "inactive"),
        *(({"health": health}, True, "inactive") for health in Health if health is not Health.HEALTHY),
    ],
)
def test_what_is_desired_ready_is_so_when_its_driver_has_set_it_up_and_says_that_it_is_well(said, is_installed, state):
    unit = Unit(address="dummy:0", identity=(), **said)
    assert offer_told(unit, "ready", is_installed=is_installed) == state
    for desired in ("inactive", "maintenance"):
        assert offer_told(unit, desired, is_installed=is_installed) == desired
