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
import re

#: What differs from one moment to the next, of a device or of a module.
FLEETING = frozenset(("holders", "refcount", "link_speed", "link_width"))
#: That something is unknown is stable, the words that say why are not.
REASON = r'\{"unknown":"(?:[^"\\]|\\.)*"\}'


def fingerprint(document):
    """Return the SHA-256, in hex, of what is stable in the facts *document*; fields that hold nothing do not count."""
    drivers = dict(document["drivers"], modules=[_stable(module) for module in document["drivers"]["modules"]])
    stable = dict(document, devices=[_stable(device) for device in document["devices"]], drivers=drivers)
    stable.pop("fingerprint", None)
    text = json.dumps(stable, sort_keys=True, separators=(",", ":"))
    if '{"unknown"' in text:
        text = re.sub(REASON, '{"unknown":""}', text)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _stable(item):
    if isinstance(item.get("protected"), list):
        item = dict(item, protected=[entry for entry in item["protected"] if not _of_connection(entry)])
    return {key: value for key, value in item.items() if key not in FLEETING and value not in (None, [], {})}


def _of_connection(protection):
    return protection["reason"] == "connection" or "this connection: " in protection["via"]
