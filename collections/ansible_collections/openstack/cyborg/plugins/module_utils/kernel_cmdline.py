# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which arguments does a kernel get that is installed later, where kernel-install takes them from a file?

So on RHEL 9 and newer, where each boot entry holds its own words. `kernel` and `grubby` call this. Pure, except
`counts` and `read`.
Source: kernel-install(8); 20-grub.install of the RHEL family's grub2, which makes the file anew from /etc/default/grub
where that is newer; 90-loaderentry.install, which skips lines with #.
"""

import os

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_words
from ansible_collections.openstack.cyborg.plugins.module_utils.grub import DEFAULTS, LATER, parse_words, split_words
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable


def counts(tree):
    """Say whether the file is there and no older than /etc/default/grub, from which it is made anew otherwise.

    Raises: Unreadable.
    """
    if not tree.exists(LATER):
        return False
    try:
        later, defaults = (os.stat(tree.path(name)).st_mtime_ns for name in (LATER, DEFAULTS))
    except FileNotFoundError:
        return True  # of the two it is the only one
    except OSError as exc:
        raise Unreadable("%s, %s: %s" % (LATER, DEFAULTS, exc.strerror)) from exc
    return later >= defaults


def read(tree):
    """Return the text of the file, bytes that are no UTF-8 kept by ``surrogateescape``; None where there is none.

    Raises: Unreadable.
    """
    data = tree.read_bytes(LATER)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def parse(text):
    """Return the words that count in the file."""
    return [word for line in text.split("\n") if not _is_comment(line) for word in parse_words(line)]


def edit(text, names, words):
    """Return the text of the file with *words* in place of all words of these *names*; the rest stays."""
    there = [word for word in parse(text) if kernel_words.find(names, word.partition("=")[0])]
    if there == parse_words(" ".join(words)):
        return text
    lines = [line if _is_comment(line) else _without(line, names) for line in text.rstrip("\n").split("\n")]
    counting = [index for index, line in enumerate(lines) if line.strip() and not _is_comment(line)]
    if counting:
        lines[counting[-1]] = " ".join([lines[counting[-1]].rstrip(), *words])
    else:
        lines = [line for line in lines if line.strip()] + [" ".join(words)]
    return "\n".join(lines) + "\n"


def _is_comment(line):
    return line.lstrip().startswith("#")


def _without(line, names):
    words = split_words(line)
    kept = [word for word in words if not kernel_words.find(names, word.replace('"', "").partition("=")[0])]
    return line if kept == words else " ".join(kept)
