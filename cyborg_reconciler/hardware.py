# SPDX-License-Identifier: Apache-2.0
"""What is a PCI function called, wherever it stands, which type do its ids stand for, what is measured of it? Pure.

Called by `core` on the controller and by the agent's driver on the host, which thus say the same of the same card.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID, uuid5

#: The type of what no class and no id tells of.
GENERIC: Final = "GENERIC"

#: The device type that a class stands for, by its first digits.
#: Source: PCI Code and ID Assignment Specification, section 1.
TYPES_BY_CLASS: Final = {"03": "GPU", "0b40": "CRYPTO", "10": "CRYPTO", "02": "NIC", "0108": "NVME", "12": "PROCESSING"}

#: FPGA cards, whose class is that of what they are programmed to be: by vendor, where it makes nothing else, or by ids.
#: Source: Linux, drivers/fpga/dfl-pci.c; the PCI ID Repository, vendors 10ee (Xilinx) and 1172 (Altera).
FPGA_VENDORS: Final = frozenset(("10ee", "1172"))
FPGA_PRODUCTS: Final = frozenset(
    ("8086", product)
    for product in ("09c4", "09c5", "0b2b", "0b2c", "0b30", "bcbd", "bcbf", "bcc0", "bcc1", "bcce", "bccf")
)

#: All that drivers measure of a device, each with its unit; nothing else becomes a metric.
MEASURES: Final = frozenset(
    (
        *("errors_correctable", "errors_nonfatal", "errors_fatal"),
        *("link_speed_gts", "link_width", "link_up"),
        *("utilisation_ratio", "memory_total_bytes", "memory_used_bytes", "temperature_celsius"),
        *("rx_bytes_total", "tx_bytes_total", "rx_errors_total", "tx_errors_total"),
    )
)
#: Of which devices: PCI functions (a domain may have more than four digits: Intel VMD), and those of `dummy`.
MEASURED: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]|dummy:[0-9]{1,3}")


class Function(NamedTuple):
    """What of a function its name is made of.

    Attributes:
        vendor_id, product_id: None where they could not be read.
        serial: None where it has none, or where that could not be read.
        physfn: the address of a VF's PF, None for what is no VF; empty where that could not be read.
        vf_index: of a VF; None where that could not be read.
    """

    address: str
    vendor_id: str | None
    product_id: str | None
    serial: str | None = None
    physfn: str | None = None
    vf_index: int | None = None


def identities(functions: Iterable[Function]) -> dict[str, tuple[str, ...]]:
    """Return what the uuids of the *functions* of one host are made of, by address: see `uuid_in`.

    Shape: one name, for a VF its PF's and its own; none where that could not be read.

    A serial makes a function known wherever it stands. Some serials are not worth the name (two chips of one card have
    one, or a vendor left it blank): what would have one name is called by its place.
    """
    found = list(functions)
    readable = [one for one in found if one.physfn is None and one.vendor_id is not None and one.product_id is not None]
    named = {one.address: _name(one) for one in readable}
    names = named if len(set(named.values())) == len(named) else _apart(named, readable)

    def identity(one: Function) -> tuple[str, ...]:
        if one.physfn is None:
            return (names[one.address],) if one.address in names else ()
        return (names[one.physfn], f"vf {one.vf_index}") if one.physfn in names and one.vf_index is not None else ()

    return {one.address: identity(one) for one in found}


def _apart(named: Mapping[str, str], functions: Iterable[Function]) -> dict[str, str]:
    """Return the names of *functions*, by address; those that share one are called by their places."""
    counts = Counter(named.values())
    return {one.address: _placed(one) if counts[named[one.address]] > 1 else named[one.address] for one in functions}


def uuid_in(namespace: UUID, names: Iterable[str]) -> UUID:
    """Return the uuid that is made of *names*, each in the namespace of the one before; the first in *namespace*."""
    for name in names:
        namespace = uuid5(namespace, name)
    return namespace


def type_of(vendor_id: str | None, product_id: str | None, class_id: str | None) -> str | None:
    """Return the type that ids and class stand for; None where one of them could not be read that may tell."""
    if vendor_id in FPGA_VENDORS or (vendor_id, product_id) in FPGA_PRODUCTS:
        return "FPGA"
    if vendor_id is None or product_id is None or class_id is None:
        return None
    return next((name for digits, name in TYPES_BY_CLASS.items() if class_id.startswith(digits)), GENERIC)


def _name(one: Function) -> str:
    if one.serial is None:
        return _placed(one)
    return f"{one.vendor_id}:{one.product_id} {one.serial} .{one.address.rpartition('.')[2]}"


def _placed(one: Function) -> str:
    return f"{one.vendor_id}:{one.product_id} {one.address}"
