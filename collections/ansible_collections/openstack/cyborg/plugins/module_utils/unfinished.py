# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What has been begun on this host and must still be finished, even if the process that began it was killed?

Two kinds: attributes that are to be set back, and images that are to be built anew. The state modules enter them before
they begin and strike them out when done; whoever comes next finishes what is left. Does I/O.
"""

import json

from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

RECORD = "/var/lib/cyborg-reconciler/unfinished.json"


def read_unfinished(tree):
    """Return what is unfinished: ``{"attributes": {path: value}, "builds": [name]}``. Raises: Failure."""
    try:
        text = tree.read_text(RECORD)
        found = json.loads(text) if text else {}
        return {"attributes": dict(found.get("attributes", {})), "builds": list(found.get("builds", []))}
    except (Unreadable, ValueError, AttributeError, TypeError) as exc:
        raise Failure("%s cannot be read: %s" % (RECORD, exc)) from exc


def _write(host, record):
    if record["attributes"] or record["builds"]:
        host.write_file(RECORD, json.dumps(record, sort_keys=True) + "\n", mode=0o600)
    else:
        host.remove_file(RECORD)


class Attribute:
    """An attribute that has another value for a while, and its old one again when the block is left."""

    def __init__(self, host, name, value, subject):
        self._host, self._name, self._value, self._subject = host, name, value, subject

    def __enter__(self):
        record = read_unfinished(self._host.tree)
        found = self._host.tree.read_text(self._name)
        if found is not None and found != self._value:
            record["attributes"].setdefault(self._name, found)  # a value entered earlier is the true one
            _write(self._host, record)
            self._host.write_attribute(self._name, self._value, self._subject)
        return self

    def __exit__(self, *_exc):
        restore_attribute(self._host, self._name)


def restore_attribute(host, name):
    """Give the attribute *name* back the value that it had before, if one is entered."""
    record = read_unfinished(host.tree)
    value = record["attributes"].pop(name, None)
    if value is None:
        return
    if host.tree.exists(name):
        host.write_attribute(name, value, name)
    _write(host, record)


def restore_all(host):
    """Give every attribute that a killed process left behind its value back."""
    for name in read_unfinished(host.tree)["attributes"]:
        restore_attribute(host, name)


def begin_build(host, name):
    """Enter that the image *name* (``initramfs``) is to be built anew, before what it is made of is changed."""
    record = read_unfinished(host.tree)
    if name not in record["builds"]:
        record["builds"].append(name)
        _write(host, record)


def end_build(host, name):
    """Strike out the image *name*: it has been built."""
    record = read_unfinished(host.tree)
    if name in record["builds"]:
        record["builds"].remove(name)
        _write(host, record)


def is_build_open(tree, name):
    """Say whether the image *name* was to be built anew and has not been."""
    return name in read_unfinished(tree)["builds"]
