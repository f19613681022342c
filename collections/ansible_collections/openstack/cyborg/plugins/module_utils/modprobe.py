# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is configured of the kernel's modules: options and blacklists of modprobe.d, and what modules-load.d loads?

`kmod` and the state module `kernel_module` call this. Parse and render are pure; `read_*` does I/O.
Source: modprobe.d(5), modules-load.d(5).
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

#: A file of an earlier folder hides those of the same name in later ones; what remains is read in the order of names.
FOLDERS = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
MODPROBE, LOAD = "modprobe.d", "modules-load.d"
#: What this collection configures of a module stands in files whose names begin so: ``cyborg-igb.conf``.
OWN_PREFIX = "cyborg-"
#: Commands of ``install`` lines that load nothing, whoever asks.
NEVER = ("/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true", "false", "true", ":")
#: Arguments of the command line that keep modules out. ``rd.driver.blacklist`` ends with the initramfs, and is none.
#: Source: modprobe(8), modprobe.blacklist; Linux, Documentation/admin-guide/kernel-parameters.txt, module_blacklist.
BLACKLIST_ARGUMENTS = ("modprobe.blacklist", "module_blacklist")


def canonical(name):
    """Return a module's name as the kernel says it: with underscores."""
    return name.replace("-", "_")


def own_file(folder, module):
    """Return the path of this collection's file for *module*; *folder* is `MODPROBE` or `LOAD`."""
    return f"/etc/{folder}/{OWN_PREFIX}{canonical(module)}.conf"


def read_configuration(tree, folder):
    """Return ``{path: text}`` of the files of modprobe.d or modules-load.d that count, in the order that they are read.

    Raises: Unreadable.
    """
    paths = {}
    for parent in FOLDERS:
        for name in tree.listdir(f"{parent}/{folder}") or ():
            if name.endswith(".conf"):
                paths.setdefault(name, f"{parent}/{folder}/{name}")
    return {paths[name]: tree.read_text(paths[name]) or "" for name in sorted(paths)}


def parse_modprobe(text):
    """Return the modules kept out and ``{module: {option: value}}`` of one file; without ``=`` the value is ""."""
    blacklisted, options = [], {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split(None, 2)
        if _keeps_out(words):
            blacklisted.append(canonical(words[1]))
        elif len(words) > 2 and words[0] == "options":  # noqa: PLR2004 -- options MODULE WORDS
            options.setdefault(canonical(words[1]), {}).update(parse_options(words[2]))
    return blacklisted, options


def _keeps_out(words):
    if words[:1] == ["install"] and words[2:]:
        return words[2].partition("#")[0].strip() in NEVER
    return words[:1] == ["blacklist"] and len(words) > 1


def read_blacklist_arguments(tree):
    """Return ``{module: word}`` of what the running kernel's command line keeps out. Raises: Unreadable."""
    text = tree.read_text("/proc/cmdline")
    if text is None:
        raise Unreadable("/proc/cmdline: no such file")
    found = (word.partition("=") for word in text.split() if word.partition("=")[0] in BLACKLIST_ARGUMENTS)
    return {canonical(name): f"{key}={names}" for key, _equals, names in found for name in names.split(",") if name}


def parse_options(text):
    """Return ``{option: value}`` of ``a=1 b="2 3" c``; an option given twice has its last value, as in the kernel."""
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)
    pairs = (word.replace('"', "").partition("=") for word in words)
    return {name: value for name, _equals, value in pairs}


def parse_load(text):
    """Return the modules that one file of modules-load.d names."""
    lines = (line.strip() for line in text.splitlines())
    return [canonical(line) for line in lines if line and line[0] not in "#;"]


def render_modprobe(module, *, blacklisted, options):
    """Return the text of a file of modprobe.d, "" when there is nothing to say."""
    lines = [f"blacklist {module}"] if blacklisted else []
    if options:
        words = (f"{name}={_quoted(value)}" if value != "" else name for name, value in sorted(options.items()))
        lines.append(f"options {module} {' '.join(words)}")
    return "".join(f"{line}\n" for line in lines)


def _quoted(value):
    return f'"{value}"' if re.search(r"\s", value) else value


def gather_configuration(texts):
    """Return the blacklisted modules, sorted, and all options, of the *texts* of modprobe.d in their order."""
    blacklisted, options = set(), {}
    for text in texts:
        names, found = parse_modprobe(text)
        blacklisted.update(names)
        for module, values in found.items():
            options.setdefault(module, {}).update(values)
    return sorted(blacklisted), options
