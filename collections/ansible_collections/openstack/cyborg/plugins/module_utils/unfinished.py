# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What has been begun on this host and must still be finished, even if the process that began it was killed?

Three kinds: attributes that are to be set back, images that are to be built anew, and devices that are to be given back
to their native driver. The state modules enter them before they begin and strike them out when done. Whoever comes next
sets the attributes back; images and devices are finished by the next call of their own module for them. Does I/O.
"""

import json

from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

RECORD = "/var/lib/cyborg-reconciler/unfinished.json"


def read_unfinished(tree):
    """Return what is unfinished. Raises: Failure.

    Shape: ``{"attributes": {path: value}, "builds": [name], "releases": [address]}``.
    """
    try:
        text = tree.read_text(RECORD)
        found = json.loads(text) if text else {}
        lists = {kind: list(found.get(kind, [])) for kind in ("builds", "releases")}
        return dict(lists, attributes=dict(found.get("attributes", {})))
    except (Unreadable, ValueError, AttributeError, TypeError) as exc:
        raise Failure("%s cannot be read: %s" % (RECORD, exc)) from exc


def _write(host, record):
    if any(record.values()):
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
    _enter(host, "builds", [name])


def end_build(host, name):
    """Strike out the image *name*: it has been built."""
    _strike(host, "builds", [name])


def begin_release(host, addresses):
    """Enter that the devices at *addresses* go back to their native drivers, before their overrides are cleared."""
    _enter(host, "releases", addresses)


def end_release(host, addresses):
    """Strike out the devices at *addresses*: they have been given back, or have been bound anew."""
    _strike(host, "releases", addresses)


def _enter(host, kind, names):
    record = read_unfinished(host.tree)
    new = [name for name in names if name not in record[kind]]
    if new:
        record[kind] += new
        _write(host, record)


def _strike(host, kind, names):
    record = read_unfinished(host.tree)
    left = [name for name in record[kind] if name not in names]
    if left != record[kind]:
        record[kind] = left
        _write(host, record)


def is_build_open(tree, name):
    """Say whether the image *name* was to be built anew and has not been."""
    return name in read_unfinished(tree)["builds"]
