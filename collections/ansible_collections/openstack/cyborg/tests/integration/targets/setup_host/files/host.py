# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a tree of a host's files: a QAT device, the NIC of the default route, the disk of the root file system.

No kernel answers there. Run by the role's task with the folder to make, PYTHONPATH at the collections.
"""

import os
import subprocess
import sys

from ansible_collections.openstack.cyborg.tests.unit.host_tree import NIC, NVME, RELEASE, HostTree, simulate

QAT = {"vendor": "8086", "product": "4940", "class_id": "0b4000"}
UPDATE_GRUB = (
    """#!/bin/sh
. "$CYBORG_ROOT/etc/default/grub"
for file in "$CYBORG_ROOT"/etc/default/grub.d/*.cfg; do
    if [ -e "$file" ]; then . "$file"; fi
done
cat >"$CYBORG_ROOT/boot/grub/grub.cfg" <<END
set default="0"
menuentry 'Linux' {
    linux /vmlinuz-%s root=/dev/nvme0n1p1 ro $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT
}
END
"""
    % RELEASE
)


def main(root):
    """Write it."""
    host = HostTree(root)
    host.function("0000:6b:00.0", QAT, driver="4xxx", group=7, sriov_totalvfs=16, sriov_numvfs=0)
    host.net("eno1", host.function("0000:01:00.0", NIC, driver="igb", group=1, sriov_totalvfs=8, sriov_numvfs=0))
    host.route("eno1")
    host.nvme(0, host.function("0000:02:00.0", NVME, driver="nvme", group=2))
    host.mount("/", "259:1", "/dev/nvme0n1p1")
    modules = "/lib/modules/" + RELEASE
    files = {"qat_4xxx": "kernel/qat_4xxx.ko", "vfio_pci": "kernel/vfio-pci.ko"}
    for driver, module in (("4xxx", "qat_4xxx"), ("igb", "igb"), ("nvme", "nvme")):
        host.link("/sys/bus/pci/drivers/%s/module" % driver, host.folder("/sys/module/" + module))
    for path in files.values():
        host.file(modules + "/" + path)
    host.file(modules + "/modules.dep", "".join("%s:\n" % path for path in files.values()))
    host.file(modules + "/modules.alias", "alias pci:v00008086d00004940sv*sd*bc*sc*i* qat_4xxx\n")
    host.file("/proc/modules", "".join("%s 45056 0 - Live 0x0\n" % module for module in ("qat_4xxx", "igb", "nvme")))
    host.file("/proc/sys/kernel/random/boot_id", "0b1f2a36-0000-4000-8000-000000000001\n")
    host.file("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    host.file("/etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
    host.folder("/etc/default/grub.d")
    host.folder("/boot/grub")
    host.file("/boot/vmlinuz-" + RELEASE)
    tool = host.real(host.file("/usr/sbin/update-grub", UPDATE_GRUB))
    os.chmod(tool, 0o700)
    simulate(host.root)
    subprocess.run([tool], env=dict(os.environ, CYBORG_ROOT=host.root), check=True)


if __name__ == "__main__":
    main(sys.argv[1])
