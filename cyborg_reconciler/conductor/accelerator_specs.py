# SPDX-License-Identifier: Apache-2.0
"""What becomes of the specification of an accelerator that a caller gives? Called by `accelerators`. Pure."""

from dataclasses import replace
from typing import Any, Final

from cyborg_reconciler.documents.rest.accelerator import SpecsGiven
from cyborg_reconciler.errors import ConflictError
from cyborg_reconciler.stores.accelerators import Accelerator, laid_over

#: The keys of a specification, and under which names an accelerator has them.
SPEC_FIELDS: Final = {
    "remote": "remotable",
    "num": "num",
    "device_type": "device_type",
    "acc_type": "acc_type",
    "vendor_id": "vendor_id",
    "product_id": "product_id",
}


def with_specs(one: Accelerator, specs: SpecsGiven) -> Accelerator:
    """Return *one* with *specs*: what an operator created is his; of what was found, discovery says the rest.

    Raises:
        ConflictError: discovery says otherwise.
    """
    fields = spec_fields(specs)
    capability = fields.pop("acc_capability", None)
    if one.origin == "api":
        return replace(one, **fields, **({} if capability is None else {"acc_capability": capability}))
    differing = [key for key, value in fields.items() if key != "remotable" and getattr(one, key) != value]
    if differing:
        raise ConflictError(
            wanted=f"{', '.join(f'{key} {fields[key]}' for key in differing)} for {one.name}",
            found=f"discovery found {', '.join(str(getattr(one, key)) for key in differing)}",
            remedy="leave out what was discovered",
        )
    overlay = one.overlay if capability is None else laid_over(one.overlay, capability)
    return replace(one, remotable=fields.get("remotable", one.remotable), overlay=overlay)


def spec_fields(specs: SpecsGiven) -> dict[str, Any]:
    """Return what *specs* say, by the names that an accelerator has for it."""
    given = specs.model_dump(exclude_none=True)
    return {SPEC_FIELDS.get(key, key): value for key, value in given.items()}
