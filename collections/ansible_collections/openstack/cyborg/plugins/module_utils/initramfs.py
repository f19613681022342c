# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Must the initial RAM disk be built anew, since it loads modules before modprobe.d of the root disk is there?

Called by `kernel_modules`. A build that was begun is remembered until it has ended (`unfinished`). Does I/O through
`Host`.
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils import unfinished
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, has_tool
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import read_kernel, read_release
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

#: Drivers that take the display before the root disk is there, in the image or as soon as udev runs in it.
DISPLAY = {"amdgpu", "ast", "i915", "mgag200", "nouveau", "nova_core", "nova_drm", "nvidia", "nvidiafb", "radeon", "xe"}
TIMEOUT_S = 1800


KEY = "initramfs "


def _key(name):
    return KEY + name


def begin(host, name):
    """Remember that what modprobe.d says of the module *name* is about to change."""
    unfinished.begin_build(host, _key(name))


def is_open(tree, name):
    """Say whether the image was to be built anew for the module *name*, and was not."""
    return name in read_open(tree)


def read_open(tree):
    """Return the modules for which the image was to be built anew, and was not. Raises: Failure."""
    return [name[len(KEY) :] for name in unfinished.read_unfinished(tree)["builds"] if name.startswith(KEY)]


def update(host, name):
    """Build the image of the next boot's kernel anew, where the module *name* is in it or should be.

    Raises: Failure.
    """
    release = _next_release(host.tree)
    image = next((path for path in _images(release) if host.tree.exists(path)), None)
    if image and (name in DISPLAY or _holds(host, image, name)):
        if has_tool(host.tree, "dracut") and not has_tool(host.tree, "update-initramfs"):
            host.run("dracut", "--force", "--kver", release, timeout_s=TIMEOUT_S)
        else:
            host.run("update-initramfs", "-u", "-k", release, timeout_s=TIMEOUT_S)
    unfinished.end_build(host, _key(name))


def _next_release(tree):
    kernels = read_kernel(tree)["kernels"]
    found = [] if is_unknown(kernels) else [one["release"] for one in kernels if one["next_boot"] is True]
    release = found[0] if found else read_release(tree)
    if is_unknown(release):
        raise Failure("which kernel boots next is not known: %s" % release["unknown"])
    return release


def _images(release):
    return ("/boot/initrd.img-%s" % release, "/boot/initramfs-%s.img" % release, "/boot/initrd-%s" % release)


def _holds(host, image, name):
    """Say whether *image* has the module in it; where that cannot be listed, it may."""
    for tool in ("lsinitramfs", "lsinitrd"):
        if has_tool(host.tree, tool):
            try:
                listed = host.run(tool, image, timeout_s=TIMEOUT_S)
            except Failure:
                return True
            return bool(re.search(r"/%s\.ko\b" % re.sub("[-_]", "[-_]", name), listed))
    return True
