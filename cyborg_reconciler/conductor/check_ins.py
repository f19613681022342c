# SPDX-License-Identifier: Apache-2.0
"""What does an agent say in a check-in? As it travels, made into what is kept. Called by `agents`. Pure."""

from datetime import datetime

from cyborg_reconciler.core.accelerators import Unit
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.documents.rest.agent import CheckInGiven, DeviceTold
from cyborg_reconciler.documents.rest.base import is_shallow
from cyborg_reconciler.errors import FactsUnreadableError, FieldError, RequestInvalidError
from cyborg_reconciler.limits import HOST_DEVICES
from cyborg_reconciler.stores.agents import AgentDriver, CheckIn, DriverHardware


def parse_check_in(host: str, given: CheckInGiven, now: datetime) -> CheckIn:
    """Return what an agent said of *host*, as it is kept.

    Raises:
        RequestInvalidError: its facts, or what its devices can do, cannot be read.
    """
    document = bytes(given.facts)
    try:
        facts = decode_facts(document) if document else None
    except FactsUnreadableError as exc:
        raise RequestInvalidError("the facts", [FieldError("$.facts", str(exc))]) from exc
    if facts is not None and facts.fingerprint != given.fingerprint:
        wrong = FieldError("$.fingerprint", "is another than that of the facts")
        raise RequestInvalidError("the check-in", [wrong])
    return CheckIn(
        host=host,
        epoch=given.epoch,
        sequence=given.sequence,
        boot_id=given.boot_id,
        fingerprint=given.fingerprint,
        agent_version=given.agent_version,
        received_at=now,
        facts=facts,
        document=document,
        health={one.address: one.health for one in given.status},
        drivers=[AgentDriver(one.name, one.type, one.status, one.endpoint) for one in given.drivers],
        hardware=_hardware_in(given),
    )


def _hardware_in(given: CheckInGiven) -> DriverHardware | None:
    """Return what drivers found that no facts tell of.

    Raises:
        RequestInvalidError: what a device can do is nested too deep, there are too many devices, or a driver is told of
            twice.
    """
    if given.hardware is None:
        return None
    if sum(len(one.devices) for one in given.hardware) > HOST_DEVICES:
        wrong = FieldError("$.hardware", f"has more than {HOST_DEVICES} devices in all")
        raise RequestInvalidError("the check-in", [wrong])
    devices: dict[str, dict[str, Unit]] = {}
    for place, one in enumerate(given.hardware):
        if one.driver in devices:  # the devices of the first would be gone
            wrong = FieldError(f"$.hardware[{place}].driver", f"{one.driver} is told of already")
            raise RequestInvalidError("the check-in", [wrong])
        devices[one.driver] = {}
        for number, device in enumerate(one.devices):
            try:
                devices[one.driver][device.uuid] = _unit(one.driver, device)
            except ValueError as exc:
                path = f"$.hardware[{place}].devices[{number}].acc_specs.acc_capability"
                raise RequestInvalidError("the check-in", [FieldError(path, str(exc))]) from exc
    partial = frozenset(one.driver for one in given.hardware if not one.whole)
    return DriverHardware(frozenset((*devices, *(one.name for one in given.drivers))), devices, partial)


def _unit(driver: str, device: DeviceTold) -> Unit:
    specs, status = device.acc_specs, device.acc_status
    return Unit(
        address=device.address,
        identity=(),
        vendor_id=specs.vendor_id,
        product_id=specs.product_id,
        device_type=specs.device_type,
        acc_type=specs.acc_type,
        is_accelerator=True,
        num=specs.num,
        capability=is_shallow(specs.acc_capability),
        driver=driver,
        setup_required=status.setup_required,
        reboot_required=status.reboot_required,
        health=Health(status.health),
    )
