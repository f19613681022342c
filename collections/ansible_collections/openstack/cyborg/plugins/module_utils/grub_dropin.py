# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How are arguments of the kernel set in GRUB's configuration on Debian's family without touching the operator's files?

One drop-in holds ours. Its first comment is the whole truth in JSON; the shell below it takes words of the same names
out of what other files say, and appends ours: the operator's words count again when ours go. Called by `bootargs`.
Pure, but for `plan` and `make`.
Source: GNU GRUB Manual 2.12, "Simple configuration handling"; grub-mkconfig of Debian, which reads the drop-ins in the
order of their names.
"""

import json
import re

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_words
from ansible_collections.openstack.cyborg.plugins.module_utils.grub import (
    DEFAULTS,
    DROPINS,
    configured_words,
    parse_defaults,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

TOOL = "update-grub"
DROPIN = DROPINS + "/zz-cyborg-reconciler.cfg"
TRUTH = "# cyborg: "

SHELL = """\
# Written by openstack.cyborg.kernel_args, which also takes it away. The next line says what is set:
%(truth)s
# Words of these names that other files have give way; then come ours.
cyborg_names='%(names)s'
cyborg_others() {
    printf ' %%s ' "$1" | sed -E -e ':again' \\
        -e "s/[[:space:]]($cyborg_names)(=(\\"[^\\"]*\\"|[^[:space:]\\"])*)?[[:space:]]/ /" \\
        -e 'tagain' -e 's/^ *//' -e 's/ *$//'
}
true && GRUB_CMDLINE_LINUX="$(cyborg_others "${GRUB_CMDLINE_LINUX-}")"
true && GRUB_CMDLINE_LINUX_DEFAULT="$(cyborg_others "${GRUB_CMDLINE_LINUX_DEFAULT-}")"
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %(words)s"
"""


def render_dropin(args):
    """Return the text of the drop-in that sets *args*, empty for none."""
    if not args:
        return ""
    names = "|".join(re.sub(r"[-_]", "[-_]", name.replace(".", "[.]")) for name in args)
    words = " ".join(word for name, value in args.items() for word in kernel_words.words_for(name, value))
    return SHELL % {"truth": TRUTH + json.dumps({"args": args}), "names": names, "words": words.replace('"', '\\"')}


def parse_dropin(text):
    """Return the arguments that the drop-in sets. Raises: ValueError."""
    line = next((line for line in (text or "").splitlines() if line.startswith(TRUTH)), None)
    if line is None:
        return {}
    return kernel_words.checked_args(json.loads(line[len(TRUTH) :])["args"])


def read_others(tree):
    """Return the words that all other files configure, None where only a shell could say. Raises: Unreadable."""
    names = [DROPINS + "/" + name for name in tree.listdir(DROPINS) or () if name.endswith(".cfg")]
    settings = {}
    for name in [DEFAULTS, *names]:
        if name != DROPIN:
            settings = parse_defaults(tree.read_text(name) or "", settings)
    try:
        return configured_words(settings)
    except ValueError:
        return None


def plan(tree, wanted, absent):
    """Return what the drop-in shall hold. Raises: Unreadable."""
    text = tree.read_text(DROPIN) or ""
    try:
        ours = parse_dropin(text)
    except (ValueError, KeyError, TypeError) as exc:
        raise Unreadable("%s: its first lines are not ours any more: %s" % (DROPIN, exc)) from exc
    args, values = kernel_words.merge(ours, wanted, absent, read_others(tree))
    return kernel_words.Plan(args, values, is_needed=render_dropin(args).rstrip() != text)


def make(host, change):
    """Write the drop-in, or take it away, and have GRUB's menu made anew. Raises: Failure."""
    if change.args:
        host.write_file(DROPIN, render_dropin(change.args))
    else:
        host.remove_file(DROPIN)
    host.run(TOOL)
