# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How does a device become at the next boot what it is now? And how is that undone without a trace?

By udev and systemd: a rule for each device starts a unit when the device appears, the unit runs a small script, the
script reads the device's file (`persistence` parses and renders it). Script and unit go with the last device. Called by
`sriov` and `binding`. Does I/O through `Host`.
"""

import inspect
import os
import sys

from ansible_collections.openstack.cyborg.plugins.module_utils import restore
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import (
    DEVICES_FOLDER,
    NOTHING,
    device_file,
    read_device,
    read_identity,
    render_device,
)

RULES_FOLDER = "/etc/udev/rules.d"
RULE_PREFIX = "71-cyborg-"
UNIT_FILE = "/etc/systemd/system/cyborg-device@.service"
SCRIPT_FOLDER = "/usr/local/lib/cyborg-reconciler"
SCRIPT_FILE = SCRIPT_FOLDER + "/restore"
#: What `Host.write_file` leaves behind when it is killed.
LEFT_OVER = ".cyborg-new"
#: RHEL 8 has a Python for the system's own needs and may have no other.
INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")

#: What the rule compares; the script compares all that tells the device from others, and says so.
RULE_IDS = ("vendor", "device")

RULE = """\
# Written by openstack.cyborg. What the device shall become: %(file)s
ACTION=="add|bind", SUBSYSTEM=="pci", KERNEL=="%(address)s"%(ids)s, TAG+="systemd", \
ENV{SYSTEMD_WANTS}+="cyborg-device@%(address)s.service"
"""
UNIT = """\
# Written by openstack.cyborg; goes with the last device in %(folder)s.
[Unit]
Description=Declared state of the accelerator %%i
DefaultDependencies=no
After=systemd-modules-load.service local-fs.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
ConditionPathExists=%(folder)s/%%i.json

[Service]
Type=oneshot
# By its interpreter: /usr/local/lib may be mounted noexec, and SELinux labels it as libraries, not programs.
ExecStart=%(interpreter)s %(script)s %%i
TimeoutStartSec=1000
"""


def rule_file(address):
    """Return where the rule of udev for the device at *address* lies."""
    return "%s/%s%s.rules" % (RULES_FOLDER, RULE_PREFIX, address)


def wanted_files(tree, address, wanted):
    """Return ``{path: (text, mode)}`` of what makes the device *wanted* at boot, the device's own file last.

    Raises: Unreadable.
    """
    identity = read_identity(tree, address)
    ids = "".join(', ATTR{%s}=="%s"' % (name, identity[name]) for name in RULE_IDS if name in identity)
    source = inspect.getsource(restore)
    interpreter = next((name for name in INTERPRETERS if tree.exists(name)), sys.executable)
    return {
        SCRIPT_FILE: ("#!%s\n%s" % (interpreter, source), 0o755),
        UNIT_FILE: (UNIT % {"folder": DEVICES_FOLDER, "interpreter": interpreter, "script": SCRIPT_FILE}, 0o644),
        rule_file(address): (RULE % {"file": device_file(address), "address": address, "ids": ids}, 0o644),
        device_file(address): (render_device(address, identity, **wanted), 0o644),
    }


def is_persisted(tree, address, wanted):
    """Say whether the next boot makes the device *wanted*, and everything that it takes is there.

    Raises: Unreadable.
    """
    if read_device(tree, address) != wanted:
        return False
    if wanted == NOTHING:
        return not any(tree.exists(name) for name in _traces(tree, address))
    files = wanted_files(tree, address, wanted)
    return all(tree.read_text(name) == text.rstrip() for name, (text, _mode) in files.items())


def persist(host, address, wanted):
    """See to it that the next boot makes the device *wanted*; `NOTHING` takes every trace away. Raises: Failure."""
    if is_persisted(host.tree, address, wanted):
        return
    if wanted == NOTHING:
        _forget(host, address)
    else:
        for name, (text, mode) in wanted_files(host.tree, address, wanted).items():
            if host.tree.read_text(name) != text.rstrip():
                host.write_file(name, text, mode=mode)
    _reload(host)


def _forget(host, address):
    """Take away what makes the device at boot, and with the last device what all of them share.

    The rule goes last: whoever finds it knows that not all is gone.
    """
    *others, rule = _traces(host.tree, address)
    for name in others:
        host.remove_file(name)
    for folder in (SCRIPT_FOLDER, DEVICES_FOLDER, os.path.dirname(DEVICES_FOLDER)):
        host.remove_folder(folder)  # where it is empty
    host.remove_file(rule)


def _traces(tree, address):
    """Return the files that are there for the device alone, those that a kill left behind among them; its rule last."""
    known = tree.listdir(DEVICES_FOLDER) or ()
    is_last = not any(name.endswith(".json") and name != address + ".json" for name in known)
    names = [device_file(address), *((UNIT_FILE, SCRIPT_FILE) if is_last else ())]
    left_over = ["%s/%s" % (DEVICES_FOLDER, name) for name in known if name.endswith(LEFT_OVER)]
    left_over += [name + LEFT_OVER for name in (*names, rule_file(address))]
    return [*left_over, *names, rule_file(address)]


def _reload(host):
    """Have systemd and udev read their files again, where they run."""
    if host.tree.exists("/run/systemd/system"):
        host.run("systemctl", "daemon-reload", timeout_s=120)
    if host.tree.exists("/run/udev/control"):
        host.run("udevadm", "control", "--reload", timeout_s=60)
