# SPDX-License-Identifier: Apache-2.0
"""What does the audit trail say of an accelerator that a caller changed? Called by `accelerators`. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cyborg_reconciler.conductor.accelerator_specs import SPEC_FIELDS
from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator, laid_over


def event_of(now: datetime, kind: str, caller: Caller, one: Accelerator, before: Accelerator | None = None) -> Event:
    """Return the entry of the audit trail: who did what to which accelerator, and what differs from before."""
    after, known = _told(one), _told(before) if before is not None else {}
    changed = [key for key, value in after.items() if key not in known or known[key] != value]
    data: dict[str, Any] = {
        **caller.trace(),
        "accelerator": one.uuid,
        "name": one.name,
        "after": {key: after[key] for key in changed},
    }
    if before is not None:
        data["before"] = {key: known[key] for key in changed}
    return Event(now, kind, one.host or "", f"{caller.name}: {one.name}", data)


def _told(one: Accelerator) -> Mapping[str, Any]:
    """Return what the audit trail keeps of an accelerator: all that a caller can change."""
    held = one.attachment
    return {
        "name": one.name,
        "description": one.description,
        "host": one.host,
        "claimed": one.claimed,
        "state": one.state,
        "desired_state": one.desired_state,
        **{key: getattr(one, name) for key, name in SPEC_FIELDS.items()},
        "acc_capability": laid_over(one.acc_capability, one.overlay),
        "attached_to": (held.instance_uuid or held.host or held.project_id) if held else None,
    }
