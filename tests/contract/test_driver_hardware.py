# SPDX-License-Identifier: Apache-2.0
"""As much as an agent tells of its drivers' devices, the conductor takes, however many there are."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from cyborg_reconciler.agent.drivers.dummy import DummyDriver
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.fitting import within_limits
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.conductor.check_ins import parse_check_in
from cyborg_reconciler.documents.rest.agent import CheckInBody
from cyborg_reconciler.limits import DRIVER_DEVICES, HOST_DEVICES

HOST = UUID("6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11")


@pytest.mark.parametrize(
    ("own", "remote", "kept", "partial"),
    [
        (2, {}, {"dummy": 2}, set()),
        (DRIVER_DEVICES + 1, {}, {"dummy": DRIVER_DEVICES}, {"dummy"}),
        (
            DRIVER_DEVICES,
            {"a": DRIVER_DEVICES - 1, "b": 2},
            {"dummy": DRIVER_DEVICES, "a": DRIVER_DEVICES - 1, "b": HOST_DEVICES - 2 * DRIVER_DEVICES + 1},
            {"b"},
        ),
    ],
)
def test_what_an_agent_tells_at_most_the_conductor_takes(tmp_path, own, remote, kept, partial):
    registry = Registry([DummyDriver(own)], StateFolder(tmp_path))
    (told,) = registry.hardware(registry.discover({}), HOST)
    hardware = [told] + [
        {"driver": name, "devices": [one | {"uuid": str(UUID(int=number))} for number, one in enumerate(devices)]}
        for name, devices in ((name, told["devices"][:1] * count) for name, count in remote.items())
    ]
    said, _ = within_limits(hardware)
    check_in = {"agent_version": "1", "boot_id": "b", "epoch": 1, "sequence": 1, "fingerprint": "f", "hardware": said}
    taken = parse_check_in(
        "compute-7", CheckInBody().validate_json(json.dumps(check_in).encode()), datetime.now(UTC)
    ).hardware
    assert {driver: len(devices) for driver, devices in taken.devices.items()} == kept
    assert taken.partial == partial
