# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which controller set what on this host, and how was it before?

`facts` and the state modules call `read_ownership`. Does I/O; `parse_ownership` is pure.
"""

import json

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

RECORD = "/var/lib/cyborg-reconciler/ownership.json"
VERSION = 1


def parse_ownership(text):
    """Return ``{"controller_id", "fencing_token", "fields": [{"path", "before", "set", "device"}]}`` of the record.

    Raises: ValueError, saying what is wrong with it.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ValueError(f"no record of version {VERSION}")
    controller_id, fencing_token = record.get("controller_id"), record.get("fencing_token", 0)
    if not (controller_id is None or isinstance(controller_id, str)) or not isinstance(fencing_token, int):
        raise ValueError("controller_id is no string, or fencing_token no number")
    return {
        "controller_id": controller_id,
        "fencing_token": fencing_token,
        "fields": [_field(entry) for entry in record.get("fields") or []],
    }


def _field(entry):
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        raise ValueError(f"{str(entry)[:80]} is no field with a path")
    device = entry.get("device") or ""
    if not isinstance(device, str):
        raise ValueError(f"{str(entry)[:80]} names no device")  # noqa: TRY004 -- it is the record that is wrong
    return {"path": path, "before": entry.get("before"), "set": entry.get("set"), "device": device}


def read_ownership(tree):
    """Return `parse_ownership` of the host's record, None where there is none. Raises: Unreadable."""
    text = tree.read_text(RECORD)
    if text is None:
        return None
    try:
        return parse_ownership(text)
    except (ValueError, TypeError) as exc:
        raise Unreadable(f"{RECORD}: {exc}") from exc
