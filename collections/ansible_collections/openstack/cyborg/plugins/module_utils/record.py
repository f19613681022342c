# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which controller may change this host, and what does the host's own record say that it has set?

Fields are entered before they are written, with the value that they had, and struck out once they are back at it: a
process that is killed in between loses nothing. Called by `apply`, under the host's lock. Does I/O.
"""

import json

from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.ownership import RECORD, VERSION, read_ownership
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

#: The first element of the path of what belongs to no device.
HOST = "host"


class Record:
    """The record of one host, as this process means to leave it; every method that changes it writes it at once."""

    def __init__(self, host):
        self._host = host
        try:
            found = read_ownership(host.tree) or {}
        except Unreadable as exc:
            raise Failure(
                "the record of what is owned cannot be read, and is not overwritten: %s" % exc.reason
            ) from exc
        self.controller_id = found.get("controller_id")
        self.fencing_token = found.get("fencing_token", 0)
        self.fields = [dict(field) for field in found.get("fields", [])]

    def fence(self, controller_id, fencing_token):
        """Take the host for *controller_id*. Raises: Refusal, where another controller or a later run has it.

        A controller that owns nothing here any more has given the host up.
        """
        is_ours = self.controller_id in (None, controller_id)
        if not is_ours and self.fields:
            message = (
                "another controller (%s) keeps this host, and this one is %s; if it is gone, remove %s on the host"
            ) % (self.controller_id, controller_id, RECORD)
            raise Refusal("Conflicted", message)
        if is_ours and fencing_token < self.fencing_token:
            message = "a later run (fencing token %d) has been here; this one has %d" % (
                self.fencing_token,
                fencing_token,
            )
            raise Refusal("Stale", message)
        if (self.controller_id, self.fencing_token) != (controller_id, fencing_token):
            self.controller_id, self.fencing_token = controller_id, fencing_token
            self._write()

    def enter(self, fields):
        """Enter *fields* as owned; return the paths that are new.

        What a field was before is never overwritten, unless another device stands there now. What is the host's stays
        so, for whichever device it is asked.
        """
        known = {tuple(field["path"]): field for field in self.fields}
        new, differs = [], False
        for field in fields:
            path = tuple(field["path"])
            device = field.get("device") or ""
            if path in known and path[0] != HOST and not _may_be(known[path]["device"], device):
                self.fields.remove(known.pop(path))
            if path not in known:
                entry = {"path": list(path), "before": field.get("before"), "set": field.get("set"), "device": device}
                self.fields.append(entry)
                new.append(path)
            elif known[path]["set"] != field.get("set"):
                known[path]["set"] = field.get("set")
                differs = True
        if new or differs:
            self._write()
        return new

    def strike(self, paths):
        """Forget the fields at *paths*; return whether one of them was known."""
        gone = {tuple(path) for path in paths}
        kept = [field for field in self.fields if tuple(field["path"]) not in gone]
        found = len(kept) != len(self.fields)
        if found:
            self.fields = kept
            self._write()
        return found

    def _write(self):
        if self._host.check:
            return
        record = {
            "version": VERSION,
            "controller_id": self.controller_id,
            "fencing_token": self.fencing_token,
            "fields": self.fields,
        }
        self._host.write_file(RECORD, json.dumps(record, sort_keys=True) + "\n", mode=0o600)


def _may_be(one, other):
    """Say whether two records may be of one device: ids, and a serial where both tell one."""
    if not one or not other:
        return True
    ids, serial = _parts(one)
    other_ids, other_serial = _parts(other)
    return ids == other_ids and (not serial or not other_serial or serial == other_serial)


def _parts(device):
    words = device.split(" ", 1)
    return words[0], words[1] if len(words) > 1 else ""
