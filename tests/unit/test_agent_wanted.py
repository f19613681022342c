# SPDX-License-Identifier: Apache-2.0
"""What the conductor wants is kept over a restart, and what makes no sense is as if it had not been said."""

import pytest

from cyborg_reconciler.agent import wanted
from cyborg_reconciler.agent.conductor import ANSWER_BYTES
from cyborg_reconciler.agent.http import encode
from cyborg_reconciler.agent.internal import BODY_BYTES
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.agent.wanted import DesiredDevice, Wanted, parse_modules, parse_ready
from cyborg_reconciler.documents import base
from cyborg_reconciler.limits import HOST_DEVICES, MODULES

UUID = "6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11"
WISH = {"driver": "dummy", "address": "dummy:0", "uuid": UUID}


def test_what_is_wanted_is_kept_and_only_what_is_said_replaces_it(tmp_path):
    folder = StateFolder(tmp_path)
    kept = Wanted(folder)
    assert (kept.ready, kept.modules, kept.uuids("dummy")) == (None, None, None)
    assert kept.take(ready=(DesiredDevice(**WISH),))
    assert not kept.take(ready=(DesiredDevice(**WISH),))
    assert kept.take(modules=("vfio_pci",))
    assert not kept.take()
    again = Wanted(folder)
    assert (again.ready, again.modules) == ((DesiredDevice(**WISH),), ("vfio_pci",))
    assert (again.uuids("dummy"), again.uuids("other"), again.addresses("dummy")) == ([UUID], [], {"dummy:0"})


@pytest.mark.parametrize("said", [None, {}, "all", [None], [{}], [WISH | {"uuid": 1}]])
def test_what_is_no_list_of_devices_says_nothing(said):
    assert parse_ready(said) is None


def test_all_devices_that_drivers_may_have_may_be_wanted_and_more_are_not_dropped_silently(caplog):
    wishes = [WISH | {"address": f"dummy:{number}"} for number in range(HOST_DEVICES)]
    assert len(parse_ready(wishes)) == len(wishes)
    assert len(encode({"ready": wishes})) < min(ANSWER_BYTES, BODY_BYTES)
    assert not caplog.messages
    assert parse_ready([*wishes, WISH]) is None
    assert "2049 devices are to be ready" in caplog.text


@pytest.mark.parametrize("said", [None, "ext4", [1], ["a b"], ["../x"], ["m" * 65], [""], ["m"] * (MODULES + 1)])
def test_what_is_no_list_of_modules_says_nothing(said):
    assert parse_modules(said) is None


def test_modules_are_called_as_the_controller_calls_them():
    assert f"^{wanted.MODULE.pattern}$" in str(base.ModuleName)
    assert parse_modules(["vfio-pci", "i915", "i915"]) == ("i915", "vfio-pci")
