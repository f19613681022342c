# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What do the Vital Product Data of a card say?

`pci` calls this, where a function has any. Pure.
Source: PCI Local Bus Specification 3.0, appendix I; Linux, drivers/pci/vpd.c.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import clean

READ_ONLY_TAG = 0x90
END_TAG = 0x78
LARGE = 0x80


def parse_vpd(data):
    """Return the keywords of the read-only section, e.g. ``{"PN": "…", "SN": "…"}``.

    Raises: ValueError for data that do not follow the rules.
    """
    at = 0
    while at < len(data) and data[at] != END_TAG:
        if not data[at] & LARGE:
            at += 1 + (data[at] & 0x07)
            continue
        if at + 3 > len(data):
            break
        size = int.from_bytes(data[at + 1 : at + 3], "little")
        if data[at] == READ_ONLY_TAG:
            return _keywords(data[at + 3 : at + 3 + size])
        at += 3 + size
    if any(data):
        raise ValueError("vpd: no read-only section in it")
    return {}


def _keywords(section):
    found, at = {}, 0
    while at + 3 <= len(section):
        size = section[at + 2]
        value = section[at + 3 : at + 3 + size]
        keyword = section[at : at + 2].decode("ascii", "backslashreplace")
        if keyword in ("PN", "SN"):
            found[keyword] = clean(value.decode("utf-8", "backslashreplace").strip(" \0\n"), 128) or None
        at += 3 + size
    return found
