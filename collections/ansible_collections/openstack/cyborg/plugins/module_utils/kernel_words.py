# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What may an argument of the kernel be, when are two the same, and which words of a command line say it?

Called by `bootargs` and those that write for a boot loader. Pure.
Source: Linux, Documentation/admin-guide/kernel-parameters.rst; kernel/params.c; lib/cmdline.c, ``next_arg``.
"""

import re

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
#: Neither a shell, nor GRUB that reads its menu, nor the kernel may see more in a value than text: no control
#: characters, nothing but ASCII, no quotes, backquotes, backslashes or $.
VALUE = re.compile(r"[^\x00-\x1f\x7f-\U0010ffff'\"`$\\]{0,1024}\Z")
#: What GRUB's own language leaves alone without quotes.
PLAIN = re.compile(r"[A-Za-z0-9_.,:/=+@%^-]*\Z")


def checked_name(name):
    """Return *name*, that of an argument. Raises: ValueError."""
    if not NAME.match(name):
        raise ValueError("%r is no name of a kernel argument" % name)
    return name


def checked_args(args):
    """Return *args* with names and values checked: text, a list of text, or True for a bare word.

    Raises: ValueError.
    """
    checked = {}
    for name, value in args.items():
        if find(checked, checked_name(name)):
            raise ValueError("%s is given twice: - and _ are the same in names of arguments" % name)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError("%s: the list is empty; name it in absent instead" % name)
        found = [_checked_value(name, one) for one in values]
        checked[name] = found if isinstance(value, list) else found[0]
    return checked


def _checked_value(name, value):
    if value is True:
        return True
    text = str(value) if isinstance(value, int) and value is not False else value
    if not isinstance(text, str) or not VALUE.match(text):
        message = "%s: %r cannot be a value: ASCII without quotes, backquotes, backslashes and $; or true, a bare word"
        raise ValueError(message % (name, value))
    return text


def same(one, other):
    """Say whether two names are one to the kernel. Source: kernel/params.c, ``parameq``."""
    return one.replace("-", "_") == other.replace("-", "_")


def find(names, name):
    """Return the one of *names* that is *name* to the kernel, None where there is none."""
    return next((one for one in names if same(one, name)), None)


def values_of(words, name):
    """Return the values that *words* give *name*, in order: text, or True for a bare word."""
    values = []
    for word in words:
        key, equals, value = word.partition("=")
        if same(key, name):
            values.append(value if equals else True)
    return values


def effective(values):
    """Return the value that the kernel goes by: the last one, None where there is none."""
    return values[-1] if values else None


def says(values, wanted):
    """Say whether *values*, as `values_of` gives them, are what is *wanted*: of a list all count, else the last."""
    return values == wanted if isinstance(wanted, list) else bool(values) and values[-1] == wanted


def words_for(name, value):
    """Return *name* and *value* as words of a command line, quoted where GRUB or the kernel would see more than one."""
    words = []
    for one in value if isinstance(value, list) else [value]:
        if one is True:
            words.append(name)
        else:
            words.append("%s=%s" % (name, one) if PLAIN.match(one) else '%s="%s"' % (name, one))
    return words


class Plan:
    """What must be told to the boot loader.

    Attributes:
        args: everything of ours afterwards. values: of each name that was asked for, what the next boot will have; None
            where that cannot be said before. later: the same of kernels to come, empty where no file of its own says
            it. is_needed: whether ours changes.
    """

    def __init__(self, args, values, *, is_needed):
        self.args, self.values, self.later, self.is_needed = args, values, {}, is_needed


def merge(ours, wanted, absent, others):
    """Return what is ours afterwards, and what the next boot then has of each name that was asked for.

    What *others* (words; None when they cannot be read) say already is left to them, unless it is ours too.
    """
    args = {name: value for name, value in ours.items() if not find(absent, name)}
    values = {name: None if others is None else values_of(others, name) for name in absent}
    for name, value in wanted.items():
        theirs, known = values_of(others or [], name), find(args, name)
        if known is None and says(theirs, value):
            values[name] = theirs
            continue
        if known is not None and known != name:
            del args[known]
        args[name] = value
        values[name] = value if isinstance(value, list) else [value]
    return args, values
