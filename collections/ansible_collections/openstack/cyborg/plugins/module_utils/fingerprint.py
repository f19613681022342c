# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Did anything on the host change that matters?

`facts` calls this last. Pure. Two documents with the same fingerprint differ in fleeting facts at most: who holds what,
how often, at which speed a link runs now, over which device this connection comes. The boot id counts as stable:
another boot is a reason to look again.
"""

import hashlib
import json

FLEETING = frozenset(("holders", "refcount", "link_speed", "link_width", "fingerprint"))


def fingerprint(document):
    """Return the SHA-256, in hex, of what is stable in the facts *document*."""
    text = json.dumps(_stable(document), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _stable(value):
    if isinstance(value, dict):
        if "unknown" in value:
            return {"unknown": ""}  # that it is unknown is stable, the words are not
        return {key: _kept(key, item) for key, item in value.items() if key not in FLEETING}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _kept(key, value):
    if key == "protected" and isinstance(value, list):
        return [_stable(protection) for protection in value if not _of_connection(protection)]
    return _stable(value)


def _of_connection(protection):
    return protection["reason"] == "connection" or "this connection: " in protection["via"]
