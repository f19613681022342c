# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How does a module get loaded or kept out, with which options, now and at the next boot?

Called by the module `kernel_module` and by `apply`. What other files of modprobe.d say is left to them: what they say
already is not said again, and what they say against it is an error that names them. Does I/O through `Host`.
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils import guards, initramfs, modules
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal, Result
from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import (
    LOAD,
    MODPROBE,
    canonical,
    own_file,
    parse_load,
    parse_modprobe,
    read_blacklist_arguments,
    read_configuration,
    render_modprobe,
)

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["loaded", "unloaded"]},
    "boot": {"type": "bool"},
    "blacklisted": {"type": "bool"},
    "options": {"type": "dict", "default": {}},
    "update_initramfs": {"type": "str", "choices": ["auto", "never"], "default": "auto"},
}
OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
VALUE = re.compile(r"[^\x00-\x1f\x7f\"\\#]{0,512}\Z")
#: How the kernel reads booleans; it shows Y and N. An option without a value is one that is set.
#: Source: Linux, lib/kstrtox.c, ``kstrtobool``; kernel/params.c, ``param_set_bool``.
BOOLEANS = dict(
    dict.fromkeys(("1", "y", "t", "on", "true"), "Y"), **dict.fromkeys(("0", "n", "f", "off", "false"), "N")
)


class Configuration:
    """What modprobe.d and modules-load.d say of one module: all together, ours alone, and who says what.

    Attributes:
        blacklisted, options, boot: what counts. own_blacklisted, own_options, own_boot: what our files say.
        blacklisted_by, boot_by: who else says it, "" for nobody. said_by: the files of the options. other_options: what
            stands in files that are not ours. Names of options have underscores, as all that the kernel says.
    """

    def __init__(self, tree, name):
        self.name = name
        self.own_modprobe, self.own_load = own_file(MODPROBE, name), own_file(LOAD, name)
        self.own_blacklisted = self.own_boot = False
        self.blacklisted_by = self.boot_by = ""
        self.options, self.own_options, self.other_options, self.said_by = {}, {}, {}, {}
        for path, text in read_configuration(tree, MODPROBE).items():
            blacklisted, options = parse_modprobe(text)
            self._add(path, name in blacklisted, options.get(name, {}))
        for path, text in read_configuration(tree, LOAD).items():
            if name in parse_load(text):
                self.own_boot = self.own_boot or path == self.own_load
                self.boot_by = self.boot_by if path == self.own_load else path
        argument = read_blacklist_arguments(tree).get(name)
        if argument:
            self.blacklisted_by = "%s on the kernel's command line" % argument
        self.blacklisted = self.own_blacklisted or bool(self.blacklisted_by)
        self.boot = self.own_boot or bool(self.boot_by)

    def _add(self, path, blacklisted, options):
        options = {canonical(option): value for option, value in options.items()}
        self.options.update(options)
        self.said_by.update(dict.fromkeys(options, path))
        if path == self.own_modprobe:
            self.own_blacklisted, self.own_options = blacklisted, dict(options)
            return
        self.other_options.update(options)
        if blacklisted:
            self.blacklisted_by = path


def read(tree, args):
    """Return what is there, in the words of the module's RETURN. Raises: Unreadable, ValueError."""
    name = modules.checked_name(args["name"])
    return _state(tree, name, Configuration(tree, name))


def _state(tree, name, configured):
    loaded = modules.is_loaded(tree, name) or modules.read_on_disk(tree, name) == "builtin"
    return {
        "loaded": loaded,
        "boot": configured.boot,
        "blacklisted": configured.blacklisted,
        "options": dict(sorted(configured.options.items())),
        "initramfs_due": initramfs.is_open(tree, name),
    }


class _Wanted:
    """What our files shall say, and whether the module shall be loaded (None: as it is)."""

    def __init__(self, args, configured):
        self.loaded = {"loaded": True, "unloaded": False}.get(args["state"])
        self.builds = args["update_initramfs"] == "auto"
        self.boot = _own(args["boot"], configured.boot, configured.own_boot)
        self.blacklisted = _own(args["blacklisted"], configured.blacklisted, configured.own_blacklisted)
        self.options = dict(configured.own_options)
        self.asked = _checked_options(args["options"])
        for option, value in self.asked.items():
            if value is None:
                self.options.pop(option, None)
            elif not means(self.options.get(option, configured.options.get(option)), value):
                self.options[option] = value

    def changes_modprobe(self, configured):
        return self.blacklisted != configured.own_blacklisted or self.options != configured.own_options

    def changes_load(self, configured):
        return self.boot != configured.own_boot

    def after(self, before, configured):
        """Return what *before* becomes, in the words of the module's RETURN: what other files say stays."""
        options = dict(before["options"])
        for option, value in self.asked.items():
            theirs = configured.other_options if value is None else configured.options
            options[option] = self.options.get(option, theirs.get(option))
        options = {option: value for option, value in options.items() if value is not None}
        return {
            "loaded": before["loaded"] if self.loaded is None else self.loaded,
            "boot": self.boot or bool(configured.boot_by),
            "blacklisted": self.blacklisted or bool(configured.blacklisted_by),
            "options": dict(sorted(options.items())),
            "initramfs_due": before["initramfs_due"] and not self.builds,
        }


def _own(asked, said, own):
    """Return whether our file shall say it: asked for and said by nobody else, or not asked about and ours already."""
    if asked is None:
        return own
    return asked and (own or not said)


def _checked_options(options):
    checked = {}
    for option, value in options.items():
        text = value if value is None else str(int(value) if isinstance(value, bool) else value)
        if not OPTION.match(option) or (text is not None and not VALUE.match(text)):
            raise ValueError(
                "%r=%r is no option of a module: no quotes, backslashes, # or control characters" % (option, value)
            )
        if canonical(option) in checked:
            raise ValueError("%s is given twice: - and _ are the same in names of options" % option)
        checked[canonical(option)] = text
    return checked


def means(text, wanted):
    """Say whether *text* says what is *wanted*: booleans, numbers, and lists of them are written in many ways.

    None, an option that is not there, says nothing.
    """
    if text is None:
        return False
    said, asked = ((value or "Y").split(",") for value in (text, wanted))
    return text == wanted or (len(said) == len(asked) and all(map(_means_one, said, asked)))


def _means_one(text, wanted):
    if text.lower() in BOOLEANS and wanted.lower() in BOOLEANS:
        return BOOLEANS[text.lower()] == BOOLEANS[wanted.lower()]
    return text == wanted or (_number(text) is not None and _number(text) == _number(wanted))


def _number(text):
    """Return the number that the kernel reads, 0x10, 020 and 16 being one; None when it is none.

    Source: Linux, lib/kstrtox.c, ``_parse_integer_fixup_radix``.
    """
    digits = text.lstrip("+-")
    try:
        return int(text, 8 if digits.startswith("0") and digits.isdecimal() else 0)
    except ValueError:
        return None


def ensure(host, args):
    """Make the module as *args* say. Raises: Refusal, Failure, ValueError, Unreadable."""
    name = modules.checked_name(args["name"])
    configured = Configuration(host.tree, name)
    before, wanted = _state(host.tree, name, configured), _Wanted(args, configured)
    _refuse_others(name, args, configured)
    moves = wanted.loaded is not None and wanted.loaded != before["loaded"]
    rewrites = wanted.changes_modprobe(configured)
    image = wanted.builds and before["initramfs_due"]
    if not (moves or rewrites or image or wanted.changes_load(configured)):
        _verify_options(configured, wanted)
        return Result(before, before, changed=False, reboot_required=_waits(host.tree, name, args, before))
    _refuse(host, name, wanted, before, moves)
    if not host.announce(before):
        return Result(before, wanted.after(before, configured), changed=True)
    if rewrites and wanted.builds:
        initramfs.begin(host, name)
    _configure(host, configured, wanted)
    if moves:
        (modules.load if wanted.loaded else modules.unload)(host, name)
    if wanted.builds and (rewrites or image):
        initramfs.update(host, name)
    after = read(host.tree, args)
    _verify(Configuration(host.tree, name), wanted, after)
    return Result(before, after, changed=True, reboot_required=_waits(host.tree, name, args, after))


def _refuse_others(name, args, configured):
    """Fail where another file says what is not wanted: it is not ours to take out. Raises: Failure."""
    if args["blacklisted"] is False and configured.blacklisted_by:
        raise Failure("%s: %s keeps it out: take it out there" % (name, configured.blacklisted_by))
    if args["boot"] is False and configured.boot_by:
        raise Failure("%s: %s loads it at boot: take it out there" % (name, configured.boot_by))


def _refuse(host, name, wanted, before, moves):
    """Refuse what would take a protected or used device away, now or at the next boot. Raises: Refusal, Failure."""
    if moves and wanted.loaded and not modules.is_on_disk(host.tree, name):
        raise Failure("%s: the running kernel has no such module" % name)
    if moves and wanted.loaded:
        modules.refuse_kept_out(host.tree, name)
        modules.refuse_unsigned(host.tree, name)
    if wanted.blacklisted and not before["blacklisted"]:
        module = guards.read_module(host, name)
        if module["builtin"]:
            raise Refusal(
                "Unsupported", "%s is built into the kernel: it can be neither unloaded nor blacklisted" % name
            )
        modules.refuse_protected(module)
    if moves and not wanted.loaded:
        modules.refuse_unload(host, name)


def _configure(host, configured, wanted):
    """Write our files, or take them away when they have nothing to say. Raises: Failure."""
    if wanted.changes_modprobe(configured):
        text = render_modprobe(configured.name, blacklisted=wanted.blacklisted, options=wanted.options)
        _write(host, configured.own_modprobe, text)
    if wanted.changes_load(configured):
        _write(host, configured.own_load, configured.name + "\n" if wanted.boot else "")


def _write(host, path, text):
    if text:
        host.write_file(path, "# Written by openstack.cyborg.kernel_module, which also takes it away.\n" + text)
    else:
        host.remove_file(path)


def _waits(tree, name, args, state):
    """Say whether a boot (or a reload of the module) is needed before everything that is configured counts."""
    if not modules.is_loaded(tree, name):
        return False
    if args["blacklisted"] and state["blacklisted"]:
        return True
    for option, value in _checked_options(args["options"]).items():
        running = tree.read_text("/sys/module/%s/parameters/%s" % (name, option))
        if value is not None and running is not None and not means(running, value):
            return True
    return False


def _verify(configured, wanted, after):
    """Fail when another file of modprobe.d overrides ours, or the module did not move. Raises: Failure."""
    _verify_options(configured, wanted)
    if wanted.loaded is not None and after["loaded"] != wanted.loaded:
        found = "not loaded" if wanted.loaded else "loaded"
        why = ": %s keeps it out" % configured.blacklisted_by if wanted.loaded and configured.blacklisted_by else ""
        raise Failure("%s: modprobe ended well, and the module is %s%s" % (configured.name, found, why))


def _verify_options(configured, wanted):
    for option, value in wanted.asked.items():
        found = configured.options.get(option)
        if value is not None and not means(found, value):
            message = "%s: %s sets %s=%s after our file: take it out there"
            raise Failure(message % (configured.name, configured.said_by.get(option), option, found))
