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
    ARGUMENTS,
    DEFAULTS,
    configured_words,
    parse_defaults,
    parse_words,
    read_next_entry,
    render_words,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

TOOL = "grubby"
RECORD = "/etc/cyborg-reconciler/kernel_args.json"
#: What sets the words of all entries, and the one form of it that is edited: one line, in which a shell sees but text.
SETS = re.compile(r"^(?![ \t]*#).*\bGRUB_CMDLINE_LINUX\b\+?=.*$", re.MULTILINE)
PLAIN = re.compile(
    r"""(?P<head>(?:export[ \t]+)?GRUB_CMDLINE_LINUX=)"""
    r"""(?:"(?P<double>(?:[^"\\$`]|\\["\\$`])*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'\\$`;&|<>()#]*))"""
    r"""(?P<tail>[ \t]*|[ \t]+\#.*)"""
)


class Plan(kernel_words.Plan):
    """What grubby must be told.

    Attributes:
        names: of the arguments that are set anew or go. replaced: by name, what stood there before ours did.
        words: what is set anew. defaults: what /etc/default/grub is to hold, None where it is left as it is.
    """

    def __init__(self, args, values, *, is_needed):
        super().__init__(args, values, is_needed=is_needed)
        self.names, self.replaced, self.words, self.defaults = [], {}, [], None


def _read_record(tree):
    text = tree.read_text(RECORD)
    try:
        record = json.loads(text) if text else {}
        return kernel_words.checked_args(record.get("args", {})), dict(record.get("replaced", {}))
    except (ValueError, AttributeError, TypeError) as exc:
        raise Unreadable("%s: %s" % (RECORD, exc)) from exc


def plan(tree, wanted, absent):
    """Return what grubby must be told. Raises: Unreadable; Refusal, where /etc/default/grub cannot be kept in step."""
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
    given = {name: _value_after(change, name) for name in change.names}
    change.words = [
        one for name, value in given.items() if value is not None for one in kernel_words.words_for(name, value)
    ]
    change.defaults = _planned_defaults(tree, change)
    return change


def _planned_defaults(tree, change):
    """Return the text that /etc/default/grub is to hold, None where it is as it is to be. Raises: Refusal."""
    data = tree.read_bytes(DEFAULTS) if change.names else None
    if data is None:
        return None
    text = data.decode("utf-8", "surrogateescape")
    try:
        edited = edit_defaults(text, change.names, change.words)
    except ValueError as exc:
        message = "%s: %s: write GRUB_CMDLINE_LINUX as one plain line there, for the kernels to come"
        raise Refusal("ManualActionRequired", message % (DEFAULTS, exc)) from exc
    return None if edited == text else edited


def make(host, change):
    """Tell grubby and /etc/default/grub; what is replaced is kept first. Raises: Failure."""
    _write_record(host, {**change.args, **dict.fromkeys(change.names, True)}, change.replaced)
    if change.names:
        host.run(TOOL, "--update-kernel=ALL", "--remove-args=" + " ".join(change.names))
    if change.words:
        host.run(TOOL, "--update-kernel=ALL", "--args=" + " ".join(change.words))
    if change.defaults is not None:
        host.write_file(DEFAULTS, change.defaults)
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


def edit_defaults(text, names, words):
    """Return the text of /etc/default/grub with *words* in place of all words of these *names*; the rest stays.

    Pure. Raises: ValueError, naming the line, where a shell would have to say what that is.
    """
    found = list(SETS.finditer(text))
    if not found:
        return text + ("" if text.endswith("\n") or not text else "\n") + _line("GRUB_CMDLINE_LINUX=", words) + "\n"
    plain = PLAIN.fullmatch(found[0].group())
    if len(found) > 1 or plain is None:
        at = found[-1]
        number = text.count("\n", 0, at.start()) + 1
        raise ValueError("line %d: %s is not a plain assignment, or not the only one" % (number, at.group().strip()))
    before = re.sub(r'\\(["\\$`])', r"\1", plain["double"]) if plain["double"] else plain["single"] or plain["bare"]
    kept = [word for word in parse_words(before or "") if not kernel_words.find(names, word.partition("=")[0])]
    line = _line(plain["head"], [render_words(kept), *words]) + plain["tail"]
    edited = text[: found[0].start()] + line + text[found[0].end() :]
    wanted = [*kept, *parse_words(" ".join(words))]
    if configured_words(parse_defaults(edited), ARGUMENTS[:1]) != wanted:
        raise ValueError("something else there changes GRUB_CMDLINE_LINUX")
    return edited


def _line(head, words):
    return '%s"%s"' % (head, re.sub(r'(["\\$`])', r"\\\1", " ".join(words).strip()))
