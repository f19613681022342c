# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which kernel arguments are configured for GRUB 2, and which entry with which arguments boots next?

`kernel` and the state module `kernel_args` call this. Parsers are pure; `read_*` does I/O.
Source: GNU GRUB Manual 2.12, "Simple configuration handling", "default", "Shell-like scripting"; the Boot Loader
Specification; grub2's blscfg of the RHEL family; Linux, lib/cmdline.c.
"""

import json
import re

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, clean

DEFAULTS = "/etc/default/grub"
#: Read after `DEFAULTS` by the grub-mkconfig of the Debian family, and by no other.
DROPINS = "/etc/default/grub.d"
#: Where there are no drop-ins, and this file is there, it tells the words of kernels to come: see `kernel_cmdline`.
LATER = "/etc/kernel/cmdline"
FOLDERS = ("/boot/grub", "/boot/grub2")
#: Where RHEL 7 and 8 have it on a machine with UEFI, in a folder that is called as the distribution is.
EFI_FOLDER = "/boot/efi/EFI"
BLS_FOLDER = "/boot/loader/entries"
GRUB, GRUB_BLS = "grub", "grub-bls"
#: Both go to every entry's command line, in this order; the second not to those for recovery.
ARGUMENTS = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
#: Of the drop-in that `grub_dropin` writes: the line that says what it sets, and how lines begin that filter others.
OUR_TRUTH, OUR_FILTER = "# cyborg: ", "true && GRUB_CMDLINE_LINUX"
BLOCK_BEGINS, BLOCK_ENDS = ("if", "case", "for", "while"), ("fi", "esac", "done")

# Compiled where they are first needed: most hosts need few of them, and every run of a module pays anew.
_WORD = r'(?:[^\s"]|"[^"]*"?)+'
_PART = r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\s'"#;]+)"""
_EXPANSION = r"\$\{?(\w+)\}?"


class Entry:
    """One entry of the boot menu: its *id*, *title*, the path of its kernel and the *words* of its command line."""

    def __init__(self, entry_id, title, kernel, words):
        self.id, self.title, self.kernel, self.words = entry_id, title, kernel, words


# ------------------------------------------------------------------------------------------------------- command lines
def parse_words(text):
    """Return the words of a command line, without the double quotes that keep spaces in a word together.

    >>> parse_words('quiet dyndbg="file a.c +p"')
    ['quiet', 'dyndbg=file a.c +p']
    """
    return [word.replace('"', "") for word in split_words(text)] if '"' in text else text.split()


def split_words(text):
    """Return the words of a command line as they are written, with their quotes."""
    return re.findall(_WORD, text)


def render_words(words):
    """Return the command line of *words*, so that `parse_words` gives them back."""
    return " ".join(map(_quoted, words))


def _quoted(word):
    if not re.search(r"\s", word):
        return word
    name, equals, value = word.partition("=")
    return f'{name}="{value}"' if equals and not re.search(r"\s", name) else f'"{word}"'


# ---------------------------------------------------------------------------------------------------------- configured
class Computed(str):
    """The value of a setting that only a shell can find out; the text says why. Who needs the value cannot go on."""

    __slots__ = ()


def parse_defaults(text, settings=None):
    """Return *settings* (of earlier files) with those of *text*, a shell script; see `Computed`."""
    settings = _without_ours(text, dict(settings or {}))
    depth = 0
    for line in text.replace("\\\n", "").splitlines():
        words = line.split(None, 1)
        first = words[0] if words else "#"
        depth += (first in BLOCK_BEGINS) - (first in BLOCK_ENDS)
        name, equals, value = line.strip().partition("=")
        name = name[len("export ") :].strip() if name.startswith("export ") else name
        if equals and name.rstrip("+").isidentifier():
            _assign(settings, name, value, certain=depth == 0)
        elif ARGUMENTS[0] in line and not line.startswith(OUR_FILTER) and first[0] != "#" and "=" in line:
            settings.update(
                dict.fromkeys(ARGUMENTS, Computed(f"{line.strip()}: only a shell can find out what this does"))
            )
    return settings


def _without_ours(text, settings):
    """Take out of *settings* what the collection's own drop-in takes out: the words that it sets itself."""
    truth = next((line[len(OUR_TRUTH) :] for line in text.splitlines() if line.startswith(OUR_TRUTH)), None)
    if truth:
        ours = {canonical(name) for name in json.loads(truth).get("args", {})}
        for name in ARGUMENTS:
            if name in settings and not isinstance(settings[name], Computed):
                words = (word for word in parse_words(settings[name]) if canonical(word.partition("=")[0]) not in ours)
                settings[name] = render_words(words)
    return settings


def canonical(name):
    """Return the name of a kernel argument as the kernel compares it: dashes are underscores."""
    return name.replace("-", "_")


def _assign(settings, name, value, *, certain):
    bare = name.rstrip("+")
    why = f"{name}={clean(value, 80)}: only a shell can find out whether this counts"
    try:
        known = _value(settings, bare) if name.endswith("+") else ""
        settings[bare] = known + _shell_value(value, settings) if certain else Computed(why)
    except ValueError as exc:
        settings[bare] = Computed(f"{name}={clean(value, 80)}: {exc}")


def _value(settings, name):
    value = settings.get(name, "")
    if isinstance(value, Computed):
        raise ValueError(str(value))  # noqa: TRY004 -- what is wrong is the value of the setting
    return value


def _shell_value(text, settings):
    """Return what a shell makes of the right side of an assignment. Raises: ValueError."""
    value, at, parts = "", 0, re.compile(_PART)
    while at < len(text) and text[at] not in " \t;#":
        part = parts.match(text, at)
        if not part:
            raise ValueError("a quote is not closed")
        at = part.end()
        if part[1] is not None:
            value += part[1]
            continue
        bare = part[2] if part[2] is not None else part[3]
        if "`" in bare or "$(" in bare:
            raise ValueError("only a shell can find out what this is")
        if "$" in bare:
            bare = re.sub(_EXPANSION, lambda match: _value(settings, match[1]), bare)
        value += re.sub(r"\\(.)", r"\1", bare) if "\\" in bare else bare
    return value


def expand(text, values):
    """Return *text* with ``$name`` and ``${name}`` filled in from *values*; what is not in them is empty."""
    return re.sub(_EXPANSION, lambda match: values.get(match[1], ""), text) if "$" in text else text


def read_defaults(tree, *, dropins):
    """Return the settings for grub-mkconfig, None where GRUB is not configured. Raises: Unreadable."""
    text = tree.read_text(DEFAULTS)
    if text is None:
        return None
    settings = parse_defaults(text)
    names = tree.listdir(DROPINS) or () if dropins else ()
    for name in [f"{DROPINS}/{name}" for name in names if name.endswith(".cfg")]:
        try:
            settings = parse_defaults(tree.read_text(name) or "", settings)
        except (ValueError, AttributeError) as exc:  # noqa: PERF203 -- a handful of files
            raise Unreadable(f"{name}: its first lines are not ours any more: {exc}") from exc
    return settings


def configured_words(settings, names=ARGUMENTS):
    """Return the words that *names* give to every entry's command line. Source: grub-mkconfig's 10_linux.

    Raises: ValueError where only a shell can find them out.
    """
    return parse_words(" ".join(_value(settings, name) for name in names))


# ----------------------------------------------------------------------------------------------------------- next boot
def parse_environment(text):
    """Return ``{name: value}`` of a grubenv block."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in pairs if equals}


def parse_menu(text):
    """Return the menu of a grub.cfg: entries in order, a submenu as ``(id, title, [entries])``."""
    menu, submenus, entry, braces = [], [], None, []
    for raw in text.splitlines():
        line = raw.strip()
        word = line.partition(" ")[0]
        here = submenus[-1][2] if submenus else menu
        if word in ("menuentry", "submenu") and line.endswith("{"):
            title, entry_id = _names(line)
            if word == "submenu":
                submenus.append((entry_id, title, []))
                here.append(submenus[-1])
            else:
                entry = Entry(entry_id, title, None, [])
                here.append(entry)
            braces.append(word)
        elif line.endswith("{"):
            braces.append("other")
        elif line == "}" and braces:
            closed = braces.pop()
            submenus = submenus[:-1] if closed == "submenu" else submenus
            entry = None if closed == "menuentry" else entry
        elif entry and line.split(None, 1)[:1] in (["linux"], ["linux16"], ["linuxefi"]):
            _command, entry.kernel, *words = parse_words(_unquoted(line))
            entry.words = words
    return menu


def _names(line):
    words = [next(part for part in match.groups() if part is not None) for match in re.finditer(_PART, line)]
    title = words[1] if len(words) > 1 else ""
    marks = ("$menuentry_id_option", "${menuentry_id_option}", "--id")
    ids = [after for before, after in zip(words, words[1:]) if before in marks]
    return title, ids[0] if ids else title


def _unquoted(line):
    # GRUB takes backslashes and single quotes away; what is left is the kernel's to split.
    line = line.replace("'", "")
    return re.sub(r"\\(.)", r"\1", line) if "\\" in line else line


def parse_default(text, environment):
    """Return the entry that a grub.cfg boots next, as it is written there: ``0``, ``1>2``, an id or a title.

    That is ``next_entry`` of grubenv, which holds for one boot, else what ``set default`` says first.
    """
    if environment.get("next_entry") and "next_entry" in text:
        return environment["next_entry"]
    lines = (line.strip() for line in text.splitlines() if "set default=" in line)
    found = [line[len("set default=") :].strip('"') for line in lines if line.startswith("set default=")]
    values = [value for value in found if "next_entry" not in value]
    return expand(values[0], environment) or "0" if values else "0"


def find_entry(menu, wanted):
    """Return the entry of *menu* that *wanted* names, None where there is none. Source: GRUB, ``get_entry_number``."""
    for step in wanted.split(">"):
        found = _pick(menu, step)
        if found is None or isinstance(found, Entry):
            return found
        menu = found[2]
    return next((item for item in menu if isinstance(item, Entry)), None)


def _pick(menu, step):
    if step.isdigit():
        return menu[int(step)] if int(step) < len(menu) else None
    names = ((item.id, item.title) if isinstance(item, Entry) else item[:2] for item in menu)
    return next((item for item, known in zip(menu, names) if step in known), None)


def parse_bls(entry_id, text, environment):
    """Return the entry of one file of the Boot Loader Specification; variables of grubenv are filled in."""
    fields = {}
    for line in text.splitlines():
        key, _space, value = line.strip().partition(" ")
        if key and key[0] != "#":
            fields[key] = f"{fields[key]} {value.strip()}" if key == "options" and key in fields else value.strip()
    options = parse_words(expand(fields.get("options", ""), environment))
    return Entry(entry_id, fields.get("title", entry_id), fields.get("linux"), options)


def version_key(name):
    """Return what sorts names of kernels as rpm does: numbers as numbers, before them letters, ``~`` before all."""
    parts = re.findall(r"\d+|[a-zA-Z]+|~", name)
    return [(2, int(part), "") if part.isdigit() else (0 if part == "~" else 1, 0, part) for part in parts]


def read_next_entry(tree):
    """Return the boot loader (`GRUB`, `GRUB_BLS` or None) and the `Entry` that boots next. Raises: Unreadable."""
    for folder in [*FOLDERS, *(f"{EFI_FOLDER}/{name}" for name in tree.listdir(EFI_FOLDER) or ())]:
        text = tree.read_text(f"{folder}/grub.cfg")
        if text is None or ("configfile" in text and "menuentry" not in text and "blscfg" not in text):
            continue  # one on the EFI partition may just lead to the real one
        environment = parse_environment(tree.read_text(f"{folder}/grubenv") or "")
        menu, loader = parse_menu(text), GRUB
        if any(line.split()[:1] == ["blscfg"] for line in text.splitlines() if "blscfg" in line):
            menu, loader = _read_bls(tree, environment) + menu, GRUB_BLS
        wanted = parse_default(text, environment)
        entry = find_entry(menu, wanted) or find_entry(menu, "0")
        if entry is None or entry.kernel is None:
            raise Unreadable(f"{folder}/grub.cfg: the entry that boots next ({clean(wanted, 80)}) starts no kernel")
        return loader, entry
    return None, None


def _read_bls(tree, environment):
    names = [name[: -len(".conf")] for name in tree.listdir(BLS_FOLDER) or () if name.endswith(".conf")]
    names.sort(key=version_key, reverse=True)
    return [parse_bls(name, tree.read_text(f"{BLS_FOLDER}/{name}.conf") or "", environment) for name in names]
