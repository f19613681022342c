# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which kernel runs, with which arguments; what boots next; and what does the firmware allow?

`facts` calls `read_kernel`; the state module `kernel_args` calls `read_arguments`. Does I/O.
Source: proc(5); os-release(5); Linux, Documentation/admin-guide/kernel-parameters.rst; UEFI Specification 2.10, 3.3.
"""

import os

from ansible_collections.openstack.cyborg.plugins.module_utils import grub
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, clean, is_unknown, unknown

FIRMWARE, KERNEL, SECURITY = "/sys/firmware", "/sys/kernel", "/sys/kernel/security"
EFI = f"{FIRMWARE}/efi"
#: The first four bytes are the variable's attributes, then comes its value.
SECURE_BOOT = f"{EFI}/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
KERNEL_NAMES = ("vmlinuz", "vmlinux", "linux", "kernel")
INITRAMFS_NAMES = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}")
FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "redhat",
    "fedora": "redhat",
    "centos": "redhat",
    "suse": "suse",
    "opensuse": "suse",
    "arch": "arch",
}


def read_release(tree):
    """Return the running kernel's release as a fact."""
    return read_own(tree, "osrelease", "release")


def read_own(tree, name, asked=None):
    """Return what the running kernel says of itself in ``/proc/sys/kernel``, or a live one when it is *asked*."""
    found = tree.fact(f"/proc/sys/kernel/{name}")
    if isinstance(found, str) and found:
        return found
    if asked and tree.is_live:
        return clean(getattr(os.uname(), asked))
    return found or unknown(f"/proc/sys/kernel/{name}: it is not said there")


def read_os(tree):
    """Return ``{"os_family": …, "os_id": …, "os_version": …}``; "" is what is not said. Source: os-release(5)."""
    text = tree.fact("/etc/os-release", str)
    text = tree.fact("/usr/lib/os-release", str) if text is None else text
    if not isinstance(text, str):
        return dict.fromkeys(("os_family", "os_id", "os_version"), text or unknown("/etc/os-release: no such file"))
    pairs = (line.partition("=") for line in text.splitlines())
    fields = {key.strip(): clean(value.strip().strip("\"'"), 128) for key, equals, value in pairs if equals}
    known = [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
    family = next((FAMILIES[name] for name in known if name in FAMILIES), known[0])
    return {"os_family": family, "os_id": known[0], "os_version": fields.get("VERSION_ID", "")}


def read_arguments(tree, family):
    """Return the ``args_…`` facts with ``boot_loader``, and the `grub.Entry` that boots next (None: not known)."""
    arguments = {"args_configured": _read_configured(tree, family), "args_running": tree.fact("/proc/cmdline", _words)}
    if arguments["args_running"] is None:
        arguments["args_running"] = unknown("/proc/cmdline: no such file")
    try:
        arguments["boot_loader"], entry = grub.read_next_entry(tree)
    except Unreadable as exc:
        arguments["boot_loader"] = arguments["args_next_boot"] = unknown(exc.reason)
        return arguments, None
    nothing = unknown(f"no grub.cfg in {', '.join(grub.FOLDERS)} or {grub.EFI_FOLDER}; only GRUB 2 is understood")
    arguments["args_next_boot"] = [clean(word) for word in entry.words] if entry else nothing
    return arguments, entry


def has_later(tree, family):
    """Say whether kernels to come get their arguments from `grub.LATER`. Raises: Unreadable."""
    if family == "debian" or not tree.exists(grub.LATER):
        return False
    from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_cmdline

    return kernel_cmdline.counts(tree)


def _read_configured(tree, family):
    if is_unknown(family):
        return family
    try:
        if has_later(tree, family):
            from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_cmdline

            return [clean(word) for word in kernel_cmdline.parse(tree.read_text(grub.LATER) or "")]
        settings = grub.read_defaults(tree, dropins=family == "debian")
        if settings is None:
            return unknown(f"{grub.DEFAULTS}: no such file; only GRUB 2 is understood")
        return [clean(word) for word in grub.configured_words(settings)]
    except Unreadable as exc:
        return unknown(exc.reason)
    except ValueError as exc:
        return unknown(f"{grub.DEFAULTS}: {exc}")


def _words(text):
    return [clean(word) for word in grub.parse_words(text)]


def read_kernel(tree):
    """Return the KernelFacts section of the facts. Raises: Unreadable."""
    found = read_os(tree)
    arguments, entry = read_arguments(tree, found["os_family"])
    next_release = None if entry is None else release_of(entry.kernel)
    return dict(
        found,
        **arguments,
        release=read_release(tree),
        architecture=read_own(tree, "arch", "machine"),
        boot_id=read_own(tree, "random/boot_id"),
        kernels=_read_kernels(tree, next_release, arguments["args_next_boot"]),
        iommu_enabled=_read_iommu(tree),
        secure_boot=_read_secure_boot(tree),
        lockdown=_read_lockdown(tree),
    )


#: How the RHEL family calls an image for repairs, which is no release of a kernel.
RESCUE = "0-rescue-"


def release_of(path):
    """Return the release that the file name of a kernel tells, None where it tells none."""
    kind, _dash, release = (path or "").rpartition("/")[2].partition("-")
    return release if kind in KERNEL_NAMES and release[:1].isdigit() and not release.startswith(RESCUE) else None


def _read_kernels(tree, next_release, next_boot):
    try:
        _require(tree, "/boot")
        files = set(tree.listdir("/boot") or ())
        releases = {release_of(name) for name in files if not name.endswith((".hmac", ".old"))}
        releases.update(
            name for name in tree.listdir("/lib/modules") or () if tree.exists(f"/lib/modules/{name}/vmlinuz")
        )
        return [
            {
                "release": clean(release),
                "headers": tree.exists(f"/lib/modules/{release}/build"),
                "initramfs": any(name.format(release) in files for name in INITRAMFS_NAMES),
                "next_boot": next_boot if is_unknown(next_boot) else release == next_release,
            }
            for release in sorted(filter(None, releases), key=grub.version_key)
        ]
    except Unreadable as exc:
        return unknown(exc.reason)


def _require(tree, folder):
    """Raise Unreadable where a *folder* is missing that each host has: what would be in it is not known."""
    if not tree.exists(folder):
        raise Unreadable(f"{folder}: no such folder")


def _read_iommu(tree):
    try:
        _require(tree, KERNEL)
        return bool(tree.listdir("/sys/kernel/iommu_groups") or tree.listdir("/sys/class/iommu"))
    except Unreadable as exc:
        return unknown(exc.reason)


def _read_secure_boot(tree):
    try:
        _require(tree, FIRMWARE)
        if not tree.exists(EFI):
            return None
        value = tree.read_bytes(SECURE_BOOT)
        if value is None:
            # An empty folder is one where efivarfs is not mounted; a firmware without the variable has no Secure Boot.
            return False if tree.listdir(f"{EFI}/efivars") else unknown(f"{EFI}/efivars: efivarfs is not mounted")
        return value[4:5] == b"\1"
    except Unreadable as exc:
        return unknown(exc.reason)


def _read_lockdown(tree):
    found = tree.fact(f"{SECURITY}/lockdown", parse_lockdown)
    if found is not None:
        return found
    try:
        _require(tree, KERNEL)
        # A kernel without lockdown shows other files there; one without securityfs has not even the folder.
        return unknown(f"{SECURITY}: securityfs is not mounted") if tree.listdir(SECURITY) == [] else None
    except Unreadable as exc:
        return unknown(exc.reason)


def parse_lockdown(text):
    """Return ``integrity`` of ``none [integrity] confidentiality``. Raises: ValueError. Source: lockdown LSM."""
    mode = text.partition("[")[2].partition("]")[0]
    if not mode:
        raise ValueError(text)
    return mode
