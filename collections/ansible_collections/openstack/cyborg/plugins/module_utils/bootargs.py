# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How do arguments of the kernel get into the boot loader's configuration, and out of it again?

What the operator configured himself stays in his files: GRUB gets a drop-in of ours (Debian's family), or grubby is
told and what it replaced is kept (RHEL's). Of an argument that is given twice the last one counts, as for the kernel;
a list says that each occurrence counts. Called by the module `kernel_args` and by `apply`. Does I/O through `Host`.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils import grub_dropin, grubby, kernel_words
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal, Result, has_tool
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import has_later, read_arguments, read_os
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

ARGUMENTS = {
    "args": {"type": "dict", "default": {}},
    "absent": {"type": "list", "elements": "str", "default": []},
}


def read(tree, args):
    """Return what is there, in the words of the module's RETURN. Raises: Failure, ValueError."""
    return _states(tree, _Asked(args))


class _Asked:
    """The checked arguments: wanted by name, and the names that are wanted no longer. Raises: ValueError."""

    def __init__(self, args):
        self.wanted = kernel_words.checked_args(args["args"])
        self.absent = [kernel_words.checked_name(name) for name in args["absent"]]
        both = [name for name in self.absent if kernel_words.find(self.wanted, name)]
        if both:
            raise ValueError("%s: it cannot be wanted and absent at once" % both[0])

    def names(self):
        return [*self.wanted, *self.absent]


def _states(tree, asked):
    """Return the values of the asked names in the next boot, in the running kernel, and in kernels to come.

    Those are told where a file of their own says it (`kernel_cmdline`). Raises: Failure.
    """
    family = read_os(tree)["os_family"]
    facts, _entry = read_arguments(tree, family)
    given = {"next_boot": facts["args_next_boot"], "running": facts["args_running"]}
    if has_later(tree, family):
        given["new_kernels"] = facts["args_configured"]
    found = {}
    for state, words in given.items():
        if is_unknown(words):
            raise Failure("what the kernel is started with (%s) cannot be read: %s" % (state, words["unknown"]))
        found[state] = {
            name: _shown(kernel_words.values_of(words, name), asked.wanted.get(name)) for name in asked.names()
        }
    return found


def ensure(host, args):
    """Make the configured arguments of the kernel as *args* say. Raises: Refusal, Failure, ValueError, Unreadable."""
    asked = _Asked(args)
    before = _states(host.tree, asked)
    loader = _loader_of(host)
    change = loader.plan(host.tree, asked.wanted, asked.absent)
    goal = {"next_boot": _goal(change.values, asked)}
    if change.later:
        goal["new_kernels"] = _goal(change.later, asked)
    if not change.is_needed and all(_is_reached(goal[state], before[state]) for state in goal):
        return Result(before, before, changed=False, reboot_required=_waits(before))
    if not host.announce(before):
        after = dict(before, **{state: dict(before[state], **values) for state, values in goal.items()})
        return Result(before, after, changed=True, reboot_required=_waits(after))
    loader.make(host, change)
    after = _states(host.tree, asked)
    for state, values in goal.items():
        _verify(values, after[state], loader)
    return Result(before, after, changed=True, reboot_required=_waits(after))


def _goal(planned, asked):
    return {name: _shown(values, asked.wanted.get(name)) for name, values in planned.items() if values is not None}


def _shown(values, wanted):
    return values if isinstance(wanted, list) and values else kernel_words.effective(values)


def _is_reached(goal, found):
    return all(found[name] == value for name, value in goal.items())


def _waits(states):
    """Say whether the running kernel has other arguments than the next one will have."""
    return states["next_boot"] != states["running"]


def _loader_of(host):
    """Return how this host's boot loader is told: `grubby` or `grub`. Raises: Refusal where there is none of them."""
    for loader in (grubby, grub_dropin):
        if has_tool(host.tree, loader.TOOL):
            return loader
    message = "no boot loader that can be told: neither %s nor %s is installed (GRUB 2 on the Debian and RHEL families)"
    raise Refusal("Unsupported", message % (grub_dropin.TOOL, grubby.TOOL))


def _verify(goal, after, loader):
    for name, value in goal.items():
        if after[name] != value:
            message = "%s ended well, and the next boot would still have %s=%s instead of %s: another file decides"
            raise Failure(message % (loader.TOOL, name, after[name], value))
