# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How are arguments of the kernel set on the RHEL family, whose boot entries are files that grubby edits?

There is no place for ours alone: what they replaced is kept in a file of ours, and put back when they go. Entries of
kernels to come are made from /etc/default/grub, which is kept in step. Called by `bootargs`. Does I/O through `Host`.
Source: grubby(8); the Boot Loader Specification.
"""

import json
import re

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_words
from ansible_collections.openstack.cyborg.plugins.module_utils.grub import (
    DEFAULTS,
    parse_words,
    read_next_entry,
    render_words,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

TOOL = "grubby"
RECORD = "/etc/cyborg-reconciler/kernel_args.json"
LINE = re.compile(r"^GRUB_CMDLINE_LINUX=(['\"]?)(.*)\1[ \t]*$", re.MULTILINE)


class Plan(kernel_words.Plan):
    """What grubby must be told.

    Attributes:
        names: of the arguments that are set anew or go. replaced: by name, what stood there before ours did.
    """

    def __init__(self, args, values, *, is_needed):
        super().__init__(args, values, is_needed=is_needed)
        self.names, self.replaced = [], {}


def _read_record(tree):
    text = tree.read_text(RECORD)
    try:
        record = json.loads(text) if text else {}
        return kernel_words.checked_args(record.get("args", {})), dict(record.get("replaced", {}))
    except (ValueError, AttributeError, TypeError) as exc:
        raise Unreadable("%s: %s" % (RECORD, exc)) from exc


def plan(tree, wanted, absent):
    """Return what grubby must be told. Raises: Unreadable."""
    ours, replaced = _read_record(tree)
    _loader, entry = read_next_entry(tree)
    words = [] if entry is None else entry.words
    others = [word for word in words if not kernel_words.find(ours, word.partition("=")[0])]
    for name, values in replaced.items():
        others.extend(name if one is True else "%s=%s" % (name, one) for one in values)
    args, values = kernel_words.merge(ours, wanted, absent, others)
    change = Plan(args, values, is_needed=args != ours)
    both = [*ours, *args]
    change.names = [name for name in [*wanted, *absent] if kernel_words.find(both, name)]
    for name in {**ours, **args}:
        known = kernel_words.find(replaced, name)
        change.replaced[name] = replaced[known] if known else kernel_words.values_of(others, name)
    return change


def make(host, change):
    """Tell grubby and /etc/default/grub; what is replaced is kept first. Raises: Failure."""
    _write_record(host, {**change.args, **dict.fromkeys(change.names, True)}, change.replaced)
    given = {name: _value_after(change, name) for name in change.names}
    words = [word for name, value in given.items() if value is not None for word in kernel_words.words_for(name, value)]
    if change.names:
        host.run(TOOL, "--update-kernel=ALL", "--remove-args=" + " ".join(change.names))
    if words:
        host.run(TOOL, "--update-kernel=ALL", "--args=" + " ".join(words))
    _edit_defaults(host, change.names, words)
    _write_record(host, change.args, change.replaced)


def _value_after(change, name):
    known = kernel_words.find(change.args, name)
    return change.args[known] if known else change.replaced.get(name) or None


def _write_record(host, args, replaced):
    kept = {name: values for name, values in replaced.items() if kernel_words.find(args, name)}
    if args:
        host.write_file(RECORD, json.dumps({"version": 1, "args": args, "replaced": kept}, indent=2) + "\n")
    else:
        host.remove_file(RECORD)


def _edit_defaults(host, names, words):
    """Set *words* in GRUB_CMDLINE_LINUX of /etc/default/grub in place of all words of these *names*."""
    text = host.tree.read_text(DEFAULTS)
    if text is None:
        return
    edited = edit_defaults(text, names, words)
    if edited != text:
        host.write_file(DEFAULTS, edited + "\n")


def edit_defaults(text, names, words):
    """Return the text of /etc/default/grub with *words* in place of all words of these *names*; the rest stays.

    Pure.
    """
    found = LINE.search(text)
    before = parse_words(found.group(2).replace('\\"', '"')) if found else []
    kept = [word for word in before if not kernel_words.find(names, word.partition("=")[0])]
    line = 'GRUB_CMDLINE_LINUX="%s"' % " ".join([render_words(kept), *words]).strip().replace('"', '\\"')
    return text[: found.start()] + line + text[found.end() :] if found else text.rstrip() + "\n" + line
