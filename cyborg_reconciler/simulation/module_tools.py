# SPDX-License-Identifier: Apache-2.0
"""modprobe, insmod, rmmod, lsmod, modinfo, depmod and rpm of a simulated host. Listed in `tools`. Does I/O on the tree.

Source: modprobe(8), rmmod(8), modinfo(8), depmod(8), rpm(8); the messages are kmod's.
"""

import errno
import os
import re
from collections.abc import Callable

from cyborg_reconciler.simulation import depmod as lists
from cyborg_reconciler.simulation.drivers import module_name
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.modprobe_config import canonical, parse_options
from cyborg_reconciler.simulation.module_file import module_info, parse_module_info
from cyborg_reconciler.simulation.result import Result, split_options

#: The words that insmod and modprobe have for the kernel's refusals.
REFUSALS = {errno.EKEYREJECTED: "Key was rejected by service", errno.EPERM: "Operation not permitted"}


def modprobe(kernel: Kernel, words: list[str]) -> Result:
    """Load or (``-r``) unload modules; ``-n``, ``-b``, ``-a``, ``-q`` and ``-D`` as they are used by scripts."""
    options, names = split_options(words, ("-d", "-S", "--set-version", "--dirname"))
    flags = {letter for name in options if not name.startswith("--") for letter in name[1:]}
    flags |= {
        {"--remove": "r", "--dry-run": "n", "--use-blacklist": "b", "--all": "a"}.get(name, "") for name in options
    }
    if not names:
        return Result(1, stderr="modprobe: ERROR: missing parameters. See -h.\n")
    if "r" in flags:
        return _each(names, lambda name: _unload(kernel, name))
    targets = names if "a" in flags else names[:1]
    given = {} if "a" in flags else parse_options(" ".join(names[1:]))
    dry, blacklist = bool(flags & {"n", "D"}), "b" in flags
    return _each(targets, lambda name: _load(kernel, name, given, dry=dry, blacklist=blacklist))


def _each(names: list[str], act: Callable[[str], str]) -> Result:
    errors = [error for name in names if (error := act(name))]
    return Result(1 if errors else 0, stderr="".join(f"modprobe: {error}\n" for error in errors))


def _load(kernel: Kernel, name: str, given: dict[str, str], *, dry: bool, blacklist: bool) -> str:
    config = kernel.config()
    found = kernel.modules.resolve(name, config)
    if not found:
        folder = f"/lib/modules/{kernel.drivers.release()}"
        return f"FATAL: Module {name} not found in directory {folder}"
    for module in found:
        if dry or (blacklist and module in config.blacklist):
            continue
        try:
            kernel.modules.load(module, config, given)
        except OSError as exc:
            text = REFUSALS.get(exc.errno or 0, exc.strerror)
            return f"ERROR: could not insert '{module}': {text}"
    return ""


def _unload(kernel: Kernel, name: str) -> str:
    found = kernel.modules.resolve(name, kernel.config()) or [canonical(name)]
    for module in found:
        if module in kernel.drivers.builtin:
            return f"FATAL: Module {name} is builtin."
        if not kernel.modules.is_loaded(module) and module not in kernel.drivers.files():
            return f"FATAL: Module {name} not found."
        try:
            kernel.modules.unload_unused(module)
        except OSError:
            return f"FATAL: Module {name} is in use."
    return ""


def insmod(kernel: Kernel, words: list[str]) -> Result:
    """Load the module of a file that depmod knows."""
    name = module_name(words[0]) if words else ""
    try:
        kernel.modules.load(name, kernel.config(), parse_options(" ".join(words[1:])))
    except OSError as exc:
        text = REFUSALS.get(exc.errno or 0, exc.strerror)
        return Result(1, stderr=f"insmod: ERROR: could not insert module {words[0] if words else ''}: {text}\n")
    return Result()


def rmmod(kernel: Kernel, words: list[str]) -> Result:
    """Unload modules, and nothing that they needed."""
    errors = []
    for name in (canonical(word) for word in words if not word.startswith("-")):
        users = kernel.modules.users(name)
        try:
            kernel.modules.unload(name)
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                errors.append(f"Module {name} is not currently loaded")
            elif exc.errno == errno.EBUSY:
                errors.append(f"Module {name} is builtin.")
            else:
                errors.append(f"Module {name} is in use{' by: ' + ' '.join(users) if users else ''}")
    return Result(1 if errors else 0, stderr="".join(f"rmmod: ERROR: {error}\n" for error in errors))


def lsmod(kernel: Kernel, _words: list[str]) -> Result:
    """Print the loaded modules."""
    lines = ["Module                  Size  Used by"]
    for line in kernel.tree.text("/proc/modules").splitlines():
        name, size, count, users, *_ = line.split(" ")
        lines.append(f"{name:<20} {size:>8}  {count} {users.strip('-,')}".rstrip())
    return Result(stdout="\n".join(lines) + "\n")


def modinfo(kernel: Kernel, words: list[str]) -> Result:
    """Print what modules' files say: all, or (``-F``) one field."""
    options, names = split_options(words, ("-F", "--field", "-k", "--set-version"))
    wanted = options.get("-F") or options.get("--field")
    release = options.get("-k") or options.get("--set-version") or kernel.drivers.release()
    end = "\0" if "-0" in options or "--null" in options else "\n"
    output, errors = "", ""
    for name in names:
        info = _info(kernel, name, release)
        if info is None:
            errors += f"modinfo: ERROR: Module {name} not found.\n"
            continue
        chosen = [value for key, value in info if key == wanted] if wanted else [_line(*pair) for pair in info]
        output += "".join(f"{line}{end}" for line in chosen)
    return Result(1 if errors else 0, stdout=output, stderr=errors)


def _line(name: str, value: str) -> str:
    return f"{name + ':':<16}{value}"


def _info(kernel: Kernel, name: str, release: str) -> list[tuple[str, str]] | None:
    builtin = kernel.drivers.builtin.get(canonical(name))
    if builtin:
        return [("name", builtin.name), ("filename", "(builtin)"), *module_info(builtin, release)]
    base = f"/lib/modules/{release}"
    path = lists.find_files(kernel.tree, release).get(canonical(name))
    path = f"{base}/{path}" if path else name
    if not os.path.isfile(kernel.tree.path(path)) or not path.startswith("/"):
        return None
    with open(kernel.tree.path(path), "rb") as file:
        data = file.read()
    try:
        return [("filename", path), *parse_module_info(data)]
    except ValueError:
        return None


def depmod(kernel: Kernel, words: list[str]) -> Result:
    """Write the lists of one kernel, or of all (``-a`` means the running one, as with kmod)."""
    _, names = split_options(words, ("-b", "-F", "-C"))
    release = names[0] if names else kernel.drivers.release()
    if not kernel.tree.exists(f"/lib/modules/{release}"):
        return Result(1, stderr=f"depmod: ERROR: could not open directory /lib/modules/{release}\n")
    lists.write_lists(kernel.tree, kernel.drivers, release)
    return Result()


def rpm(kernel: Kernel, words: list[str]) -> Result:
    """Say by name and version which package each file is of: what lies below kernel/ came with the kernel."""
    _, paths = split_options(words, ("--queryformat",))
    lines = []
    for path in paths:
        match = re.fullmatch(r"/lib/modules/(?P<version>[^/]+?)(\.x86_64)?/kernel/.+", path)
        if match and kernel.tree.exists(path):
            lines.append(f"kernel-modules-core\t{match['version']}")
        else:
            lines.append(f"file {path} is not owned by any package")
    return Result(int(any("\t" not in line for line in lines)), stdout="".join(f"{line}\n" for line in lines))
