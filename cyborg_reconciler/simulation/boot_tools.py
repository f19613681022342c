# SPDX-License-Identifier: Apache-2.0
"""update-grub, grubby, kernel-install, update-initramfs, dracut and reboot of a simulated host. I/O on its tree.

Listed in `tools`.
Source: update-grub(8), grubby(8), kernel-install(8), update-initramfs(8), dracut(8).
"""

from cyborg_reconciler.simulation import depmod, grub, initramfs
from cyborg_reconciler.simulation.initramfs import write_initramfs
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.result import Result, split_options


def update_grub(kernel: Kernel, _words: list[str]) -> Result:
    """Write grub.cfg from the settings."""
    try:
        releases = grub.write_menu(kernel.tree)
    except grub.GrubError as exc:
        return Result(1, stderr=str(exc))
    lines = ["Generating grub configuration file ..."]
    for release in releases:
        lines += [f"Found linux image: /boot/vmlinuz-{release}", f"Found initrd image: /boot/initrd.img-{release}"]
    return Result(stderr="\n".join([*lines, "done"]) + "\n")


def grubby(kernel: Kernel, words: list[str]) -> Result:
    """Show or change the arguments of the boot loader's entries."""
    names = ("--update-kernel", "--args", "--remove-args", "--info", "--set-default")
    options, _ = split_options(words, names)
    entries, default = grub.read_entries(kernel.tree), grub.default_kernel(kernel.tree)
    if "--default-kernel" in options:
        return Result(stdout=f"/boot/vmlinuz-{default}\n")
    which = options.get("--info") or options.get("--update-kernel") or ""
    chosen = {"ALL": list(entries), "DEFAULT": [default]}.get(which, [which.rpartition("vmlinuz-")[2]])
    if not all(release in entries for release in chosen):
        return Result(1, stderr=f"The param {which} is incorrect\n")
    if "--info" in options:
        return Result(stdout="".join(_info(index, entries[release]) for index, release in enumerate(chosen)))
    for release in chosen:
        add, remove = (grub.split_words(options.get(name, "")) for name in ("--args", "--remove-args"))
        changed = grub.change_options(entries[release]["options"], add, remove)
        _rewrite(kernel, entries[release], changed)
        if which == "ALL" and release == default and kernel.machine.grubby_syncs:
            kernel.tree.replace(grub.NEW_KERNELS, f"{changed}\n")
    return Result()


def kernel_install(kernel: Kernel, words: list[str]) -> Result:
    """Make the entry of a kernel that has been unpacked (``add RELEASE``), and have it boot next."""
    if words[:1] != ["add"] or len(words) < len(("add", "RELEASE")):
        return Result(1, stderr="Usage: kernel-install add KERNEL-VERSION [KERNEL-IMAGE]\n")
    identity, release = kernel.tree.text("/etc/machine-id"), words[1]
    grub.write_entry(kernel.tree, identity, release, grub.read_new_options(kernel.tree))
    kernel.tree.replace(grub.ENVIRONMENT, f"# GRUB Environment Block\nsaved_entry={identity}-{release}\n")
    return Result()


def _info(index: int, entry: dict[str, str]) -> str:
    root, *args = entry["options"].split()
    fields = {
        "kernel": f'"/boot{entry["linux"]}"',
        "args": f'"{" ".join(args)}"',
        "root": f'"{root.removeprefix("root=")}"',
        "initrd": f'"/boot{entry["initrd"]}"',
        "title": f'"{entry["title"]}"',
        "id": f'"{entry["file"].rpartition("/")[2].removesuffix(".conf")}"',
    }
    return "".join(f"{name}={value}\n" for name, value in ({"index": str(index)} | fields).items())


def _rewrite(kernel: Kernel, entry: dict[str, str], options: str) -> None:
    lines = kernel.tree.text(entry["file"]).splitlines()
    changed = [f"options {options}" if line.startswith("options ") else line for line in lines]
    kernel.tree.replace(entry["file"], "\n".join(changed) + "\n")


def update_initramfs(kernel: Kernel, words: list[str]) -> Result:
    """Build the initramfs of the newest kernel, of one (``-k``) or of all (``-k all``)."""
    options, _ = split_options(words, ("-k",))
    releases = grub.kernels(kernel.tree)
    which = options.get("-k", releases[0])
    chosen = releases if which == "all" else [which]
    if not set(chosen) <= set(releases):
        return Result(1, stderr=f"update-initramfs: no kernel {which}\n")
    machine = kernel.machine
    paths = [write_initramfs(kernel.tree, machine.family, release, machine.early_modules) for release in chosen]
    return Result(stdout="".join(f"update-initramfs: Generating {path}\n" for path in paths))


def dracut(kernel: Kernel, words: list[str]) -> Result:
    """Build the initramfs of one kernel, or of all (``--regenerate-all``)."""
    options, names = split_options(words, ("--kver",))
    releases = grub.kernels(kernel.tree)
    single = options.get("--kver") or (names[1:] or [kernel.drivers.release()])[0]
    for release in releases if "--regenerate-all" in options else [single]:
        if release not in releases:
            return Result(1, stderr=f"dracut: Cannot find module directory /lib/modules/{release}/\n")
        write_initramfs(kernel.tree, kernel.machine.family, release, kernel.machine.early_modules)
    return Result()


def list_initramfs(kernel: Kernel, words: list[str]) -> Result:
    """Print what is in an initramfs (lsinitramfs and lsinitrd): here, the modules."""
    _, names = split_options(words)
    family, release = kernel.machine.family, kernel.drivers.release()
    path = names[0] if names else initramfs.PATHS[family].format(release)
    listed = [each for each in grub.kernels(kernel.tree) if initramfs.PATHS[family].format(each) == path]
    if not listed or not kernel.tree.exists(path):
        return Result(1, stderr=f"{path}: no such file\n")
    modules, _ = initramfs.read_initramfs(kernel.tree, family, listed[0])
    files = depmod.find_files(kernel.tree, listed[0])
    found = [f"usr/lib/modules/{listed[0]}/{files[name]}" for name in modules if name in files]
    return Result(stdout="".join(f"{line}\n" for line in ["init", *found]))


def reboot(kernel: Kernel, _words: list[str]) -> Result:
    """Boot again; returns when the host is up."""
    try:
        kernel.boot()
    except grub.GrubError as exc:
        return Result(1, stderr=f"{exc}\n")
    return Result()
