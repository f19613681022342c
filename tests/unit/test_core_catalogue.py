# SPDX-License-Identifier: Apache-2.0
"""Which driver of the catalogue is for a device, and which devices an action changes along with others."""

from typing import Any

import pytest

from cyborg_reconciler.core.catalogue import fitting
from cyborg_reconciler.core.reach import reached
from cyborg_reconciler.core.state import Unknown
from tests.scenarios.story import driver_of, facts_of, looked_at

RULES: dict[str, list[dict[str, Any]]] = {
    "any": [],
    "class": [{"class": "0b40"}],
    "longer-class": [{"class": "0b4000"}],
    "vendor": [{"vendor_id": "8086"}],
    "vendor-class": [{"vendor_id": "8086", "class": "0b"}],
    "product": [{"product_id": ["4940"]}],
    "both": [{"vendor_id": "ffff"}, {"vendor_id": "8086", "product_id": ["4940", "4942"]}],
    "twin": [{"vendor_id": "8086", "product_id": ["4940"]}],
    "other": [{"vendor_id": "1af4"}],
}
UNREADABLE = {"unknown": "I/O error"}


def found(*names: str, **device: Any):
    drivers = [driver_of({"name": name, "device_type": "CRYPTO", "match": RULES[name]}) for name in names]
    catalogue = {one.document.metadata.name: one.document.spec for one in drivers}
    return fitting(facts_of({"device": device}).devices[0], catalogue)


@pytest.mark.parametrize(
    ("names", "closest"),
    [
        (["other"], ()),
        (["any", "other"], ("any",)),
        (["any", "class"], ("class",)),
        (["class", "longer-class"], ("longer-class",)),
        (["longer-class", "vendor"], ("vendor",)),
        (["vendor", "vendor-class"], ("vendor-class",)),
        (["vendor-class", "product"], ("product",)),
        (["product", "both"], ("both",)),
        (["vendor", "vendor"], ("vendor",)),
    ],
)
def test_the_driver_that_describes_a_device_most_closely_is_its_own(names, closest) -> None:
    assert found(*names) == closest == found(*reversed(names))


def test_drivers_that_are_equally_close_are_all_told() -> None:
    assert found("any", "both", "twin", "vendor") == ("both", "twin")


@pytest.mark.parametrize(
    ("names", "fact", "known"),
    [
        (["any", "vendor"], "product_id", True),
        (["any", "both"], "product_id", False),
        (["any", "both"], "class_id", True),
        (["any", "other"], "vendor_id", False),
        (["any"], "vendor_id", True),
    ],
)
def test_an_unreadable_id_counts_where_a_driver_asks_for_it(names, fact, known) -> None:
    chosen = found(*names, **{fact: UNREADABLE})
    assert isinstance(chosen, Unknown) is not known
    assert known or fact in chosen.reason


QAT = {"name": "qat", "device_type": "CRYPTO", "kernel_module": "qat_4xxx", "match": RULES["both"]}
ROLES = {"roles": {"install": "a.b.c", "uninstall": "a.b.c"}}
VIRTIO = {"driver": "virtio-pci", "function_driver": None, "modules": ["virtio_crypto"]}


@pytest.mark.parametrize(
    ("policy", "device", "touched"),
    [
        ({"kernel_modules": {"load": ["virtio-crypto"]}}, VIRTIO, True),
        ({"kernel_modules": {"load": ["virtio-crypto"]}}, {**VIRTIO, "driver_override": "vfio-pci"}, False),
        ({"kernel_modules": {"load": ["virtio-crypto"]}}, {"driver": UNREADABLE, "modules": UNREADABLE}, True),
        ({"kernel_modules": {"load": ["virtio-crypto"]}}, {"modules": ["virtio_crypto"]}, False),
        ({"kernel_modules": {"options": {"virtio-crypto": {"a": "b"}}}}, VIRTIO, False),
        ({"driver": {"name": "qat"}}, {"driver": None}, True),
        ({"driver": {"name": "qat"}}, {"driver": None, "product_id": "1234"}, False),
        ({"driver": {"name": "qat"}}, {"driver": "4xxx", "product_id": "1234"}, False),
    ],
)
def test_a_module_that_comes_takes_the_devices_that_it_fits_and_that_nothing_drives(policy, device, touched) -> None:
    modules = [{"name": "virtio_crypto"}, {"name": "qat_4xxx", "path": None}]
    given = {"drivers": [{**QAT, **ROLES}], "policy": policy, "host": {"device": device, "modules": modules}}
    _, subject, plan = looked_at(given)
    action = next(action for action in plan.actions if action.changes)
    assert list(reached(action, subject)) == (["0000:6b:00.0"] if touched else [])
