# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How are arguments of the kernel set on the RHEL family, whose boot entries are files that grubby edits?

There is no place for ours alone: what they replaced is kept in a file of ours, and put back when they go. Entries of
kernels to come are made from /etc/default/grub, or from /etc/kernel/cmdline where there is one; both are kept in step,
since grubby itself does that in some versions only. Called by `bootargs`. Does I/O through `Host`.
Source: grubby(8); the Boot Loader Specification; `kernel_cmdline`.
"""

import json
import re

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_cmdline, kernel_words
from ansible_collections.openstack.cyborg.plugins.module_utils.grub import (
    ARGUMENTS,
    DEFAULTS,
    LATER,
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
        ours: the arguments that were ours before. names: of those that are set anew or go.
        replaced: by name, what stood there before ours did.
        words: what is set anew. defaults: what /etc/default/grub is to hold, None where it is left as it is.
        later_replaced, later_names, later_words: the same of /etc/kernel/cmdline, of all that is or was ours.
        later_counts: that file was there and counted before anything was changed, or may be made by grubby.
    """

    def __init__(self, args, values, *, is_needed):
        super().__init__(args, values, is_needed=is_needed)
        self.ours, self.names, self.replaced, self.words, self.defaults = {}, [], {}, [], None
        self.later_replaced, self.later_names, self.later_words, self.later_counts = {}, [], [], True


def _read_record(tree):
    """Return what is ours, and by name what that replaced in the entries and in /etc/kernel/cmdline.

    And whether that file counted when a change was begun that did not come to its end; None where none is under way.
    """
    text = tree.read_text(RECORD)
    try:
        record = json.loads(text) if text else {}
        ours = kernel_words.checked_args(record.get("args", {}))
        return ours, dict(record.get("replaced", {})), dict(record.get("later", {})), record.get("later_counts")
    except (ValueError, AttributeError, TypeError) as exc:
        raise Unreadable("%s: %s" % (RECORD, exc)) from exc


def plan(tree, wanted, absent):
    """Return what grubby must be told. Raises: Unreadable; Refusal, where /etc/default/grub cannot be kept in step."""
    ours, replaced, later_replaced, begun = _read_record(tree)
    text = kernel_cmdline.read(tree)
    counts = begun if begun is not None else text is None or kernel_cmdline.counts(tree)
    later = kernel_cmdline.parse(text) if text is not None and counts else None
    _loader, entry = read_next_entry(tree)
    words = [] if entry is None else entry.words
    others = [word for word in words if not kernel_words.find(ours, word.partition("=")[0])]
    for name, values in replaced.items():
        others.extend(name if one is True else "%s=%s" % (name, one) for one in values)
    args, values = kernel_words.merge(ours, wanted, absent, _lasting(others, later, wanted))
    change = Plan(args, values, is_needed=args != ours or begun is not None)
    change.ours, change.later_counts = ours, counts
    both = [*ours, *args]
    # What was begun and did not come to its end is finished by whichever call comes next.
    change.names = list(ours) if begun is not None else []
    change.names += [name for name in [*wanted, *absent] if kernel_words.find(both, name) and name not in change.names]
    for name in {**ours, **args}:
        known = kernel_words.find(replaced, name)
        change.replaced[name] = replaced[known] if known else kernel_words.values_of(others, name)
    change.words = _words_after(change, change.names, change.replaced)
    change.defaults = _planned_defaults(tree, change)
    _plan_later(change, ours, later, later_replaced)
    if later is not None:
        change.later = {name: _later_values(change, name, later) for name in [*wanted, *absent]}
    return change


def _lasting(others, later, wanted):
    """Return *others* without those words that are wanted and that kernels to come would not get: ours are set then."""
    if later is None:
        return others
    passing = [
        name for name, value in wanted.items() if not kernel_words.says(kernel_words.values_of(later, name), value)
    ]
    return [word for word in others if not kernel_words.find(passing, word.partition("=")[0])]


def _plan_later(change, ours, later, replaced):
    """Enter what /etc/kernel/cmdline is to hold, whose words are *later* (None: it is not there, grubby may make it).

    What is ours and not known to have replaced something there was set before the file was: the entries' words count.
    """
    for name in {**ours, **change.args}:
        known = kernel_words.find(replaced, name)
        if known:
            change.later_replaced[name] = replaced[known]
        elif later is None or kernel_words.find(ours, name):
            change.later_replaced[name] = change.replaced[name]
        else:
            change.later_replaced[name] = kernel_words.values_of(later, name)
    change.later_names = list(change.later_replaced)
    change.later_words = _words_after(change, change.later_names, change.later_replaced)
    if later is not None and not all(
        kernel_words.says(kernel_words.values_of(later, name), value) for name, value in change.args.items()
    ):
        change.is_needed = True


def _words_after(change, names, replaced):
    """Return the words that the arguments of these *names* come down to: ours, or else what they replaced."""
    words = []
    for name in names:
        known = kernel_words.find(change.args, name)
        value = change.args[known] if known else replaced.get(name)
        words.extend(kernel_words.words_for(name, value) if value else ())
    return words


def _later_values(change, name, later):
    known = kernel_words.find(change.later_names, name)
    return kernel_words.values_of(parse_words(" ".join(change.later_words)) if known else later, name)


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
    """Tell grubby and the files that kernels to come are set up from; what is replaced is kept first.

    Raises: Failure, Unreadable.
    """
    _write_record(host, change, {**change.ours, **change.args}, later_counts=change.later_counts)
    if change.names:
        host.run(TOOL, "--update-kernel=ALL", "--remove-args=" + " ".join(change.names))
    if change.words:
        host.run(TOOL, "--update-kernel=ALL", "--args=" + " ".join(change.words))
    if change.defaults is not None:
        host.write_file(DEFAULTS, change.defaults)
    text = kernel_cmdline.read(host.tree)  # grubby may have written it, or made it
    if text is not None and change.later_counts:  # else it is made anew from the defaults, with what they say by now
        edited = kernel_cmdline.edit(text, change.later_names, change.later_words)
        host.write_file(LATER, edited)  # even the same: it must not be older than the defaults
    _write_record(host, change, change.args)


def _write_record(host, change, args, **under_way):
    if not args:
        host.remove_file(RECORD)
        return
    kept, later = (
        {name: values for name, values in replaced.items() if kernel_words.find(args, name)}
        for replaced in (change.replaced, change.later_replaced)
    )
    record = {"version": 1, "args": args, "replaced": kept, "later": later, **under_way}
    host.write_file(RECORD, json.dumps(record, indent=2) + "\n")


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
