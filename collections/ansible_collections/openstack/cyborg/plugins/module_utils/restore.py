# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What shall a device become, now that the host has booted or the device has been plugged in?

Installed on the host as /usr/local/lib/cyborg-reconciler/restore and started by the unit cyborg-device@.service with
the device's address. Reads /etc/cyborg-reconciler/devices/ADDRESS.json, does what it says, and says what it did. It
takes nothing away that is in use, and does nothing to a device that the file was not written for: addresses move when
cards do. Stands alone: the standard library and nothing else, Python 3.6 or newer. The modules share what is pure here.
"""

import contextlib
import fcntl
import glob
import json
import os
import re
import socket
import subprocess
import sys
import time

PCI = "/sys/bus/pci"
VIRTIO = "/sys/bus/virtio"
VIRTIO_VENDOR = "0x1af4"
DEVICES = "/etc/cyborg-reconciler/devices"
#: What changes the host holds this; a device that is bound by a module starts this program too, which then waits for
#: it.
LOCK = "/run/cyborg-reconciler/lock"
LOCK_TIMEOUT_S = 900
DRIVER_TIMEOUT_S = 60
POLL_S = 0.2
UNBOUND = "none"
#: VFIO's general driver, and what the names of all its drivers end in. Source: Linux, drivers/vfio/pci.
VFIO, VFIO_ENDINGS = "vfio-pci", ("vfio-pci", "vfio_pci")
NO_OVERRIDE = "(null)"
#: PCI-to-PCI bridges and the host bridge stay with their own drivers. Source: Linux, drivers/vfio/group.c.
BRIDGES = ("0x0600", "0x0604", "0x0609")
#: Which device stands at an address. Its serial is the fifth, where its configuration space has one.
IDS = ("vendor", "device", "subsystem_vendor", "subsystem_device")
#: Extended capabilities: the first one's place, the bytes of a header and a serial, the id of Device Serial Number.
#: Source: PCI Express Base Specification 5.0, sections 7.6.3 and 7.9.3.
EXTENDED, SERIAL_BYTES, SERIAL_ID = 0x100, 12, 0x0003
CONFIG_BYTES = 4096
#: Source: Linux, include/uapi/linux/if.h, IFF_UP; net/ipv6/addrconf.c, if6_seq_show: the scope of fe80::/10.
UP, LINK_LOCAL = 1, "20"
ROOT = os.environ.get("CYBORG_ROOT", "/").rstrip("/")


def say(text):
    """Write a line to the journal."""
    sys.stderr.write(text + "\n")


def read(name):
    """Return the text of an attribute, empty where it is not there."""
    try:
        with open(ROOT + name, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def write(name, value):
    """Write an attribute; on a simulated host the process that plays the kernel is asked. Raises: OSError."""
    folder = ROOT + "/run"
    if ROOT and os.path.exists(folder + "/kernel.sock"):
        handle = os.open(folder, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect("/proc/self/fd/%d/kernel.sock" % handle)
            client.sendall(json.dumps({"write": name, "value": value}).encode() + b"\n")
            with client.makefile("rb") as answers:
                answer = json.loads(answers.readline().decode())
        os.close(handle)
        if answer["errno"]:
            raise OSError(answer["errno"], answer.get("text") or os.strerror(answer["errno"]), name)
        return
    with open(ROOT + name, "w", encoding="utf-8") as file:
        file.write(value)


def device(address):
    """Return the folder of the function at *address*."""
    return "%s/devices/%s" % (PCI, address)


def driver_of(address):
    """Return the driver that the function is bound to, empty where there is none."""
    link = ROOT + device(address) + "/driver"
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def load(driver, bus=PCI):
    """Load the module of *driver*, unless the driver is there."""
    if driver == UNBOUND or os.path.isdir("%s%s/drivers/%s" % (ROOT, bus, driver)):
        return
    folders = [ROOT + folder for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin")]
    tools = [tool for tool in (os.path.join(folder, "modprobe") for folder in folders) if os.access(tool, os.X_OK)]
    subprocess.run([*tools[:1], driver], check=False)


def registered(driver):
    """Return what the kernel calls *driver*, where that is the name of its module: qat_4xxx is the module of 4xxx."""
    found = glob.glob("%s/sys/module/%s/drivers/pci:*" % (ROOT, driver.replace("-", "_")))
    if os.path.isdir("%s%s/drivers/%s" % (ROOT, PCI, driver)) or len(found) != 1:
        return driver
    return os.path.basename(found[0])[len("pci:") :]


def override(address, driver):
    """Let no driver but *driver* take the function at *address*. Raises: OSError."""
    if read(device(address) + "/driver_override") != driver:
        write(device(address) + "/driver_override", driver)


# ------------------------------------------------------------------------------------------------ which device it is
def serial_in(config):
    """Return the serial number in a function's configuration space, None where it has none or it cannot be seen."""
    at = EXTENDED
    for _capability in range(CONFIG_BYTES // 4):
        if at < EXTENDED or at + SERIAL_BYTES > len(config):
            break
        header = int.from_bytes(config[at : at + 4], "little")
        if header & 0xFFFF == SERIAL_ID:
            number = int.from_bytes(config[at + 4 : at + SERIAL_BYTES], "little")
            return "%016x" % number if number else None
        at = header >> 20
    return None


def difference(recorded, found):
    """Return how the device *found* differs from the one *recorded*, empty where it is the same.

    A file of an earlier version records nothing. A serial that cannot be read now does not count.
    """
    for name, value in sorted(recorded.items()):
        if found.get(name) != value and (found.get(name) or name in IDS):
            return "its %s was %s and is %s" % (name, value, found.get(name) or "unknown")
    return ""


def identity(address):
    """Return what tells the function at *address* from others."""
    found = {name: read("%s/%s" % (device(address), name)) for name in IDS}
    with contextlib.suppress(OSError), open(ROOT + device(address) + "/config", "rb") as file:
        found["serial"] = serial_in(file.read(CONFIG_BYTES))
    return found


# ------------------------------------------------------------------------------------------------------ who uses it
def names_below(address, kind):
    """Return the names of the *kind* (``block``, ``net``) of devices that the function at *address* carries."""
    folder = os.path.realpath(ROOT + device(address)) + "/"
    place = "%s/sys/class/%s/" % (ROOT, kind)
    names = os.listdir(place) if os.path.isdir(place) else []
    return {name for name in names if os.path.realpath(place + name).startswith(folder)}


def on_top(names, kind, pattern):
    """Return *names* and what is made of them: the links *pattern* below each, and what is made of those."""
    found, left = set(), set(names)
    while left:
        name = left.pop()
        found.add(name)
        links = glob.glob("%s/sys/class/%s/%s/%s" % (ROOT, kind, glob.escape(name), pattern))
        left |= {os.path.basename(os.path.realpath(link)) for link in links} - found
    return found


def mounted_on(address):
    """Return the block devices on the function that are mounted or swapped to, those made of its own among them."""
    names = names_below(address, "block")
    # The name of a path to an NVMe namespace, nvme0c1n1, and of the namespace, which several controllers share.
    names |= {re.sub(r"^(nvme\d+)c\d+n", r"\1n", name) for name in names}
    parts = [part for name in names for part in glob.glob("%s/sys/class/block/%s/%s*" % (ROOT, name, name))]
    names.update(os.path.basename(part) for part in parts)
    names = on_top(names, "block", "holders/*")
    table = read("/proc/self/mountinfo") or read("/proc/1/mountinfo")
    mounts = [line.partition(" - ") for line in table.splitlines()]
    numbers = {before.split()[2] for before, _dash, _after in mounts if before.split()[2:]}
    nodes = [after.split()[1] for _before, _dash, after in mounts if after.split()[1:]]
    nodes += [line.split()[0] for line in read("/proc/swaps").splitlines() if line.startswith("/")]
    used = {os.path.basename(os.path.realpath(ROOT + node)) for node in nodes if node.startswith("/dev/")}
    return sorted(name for name in names if name in used or read("/sys/class/block/%s/dev" % name) in numbers)


def up_on(address):
    """Return the net devices on the function that are up, where they or what is made of them has an IP address."""
    routes = [line.split()[0] for line in read("/proc/net/route").splitlines()[1:] if line.strip()]
    addresses = [line.split() for line in read("/proc/net/if_inet6").splitlines()]
    used = set(routes) | {words[5] for words in addresses if words[5:] and words[3] != LINK_LOCAL}
    up = {name for name in names_below(address, "net") if int(read("/sys/class/net/%s/flags" % name) or "0", 16) & UP}
    return sorted(name for name in up if on_top({name}, "net", "upper_*") & used)


def refuse_used(address):
    """Refuse to take its driver from a function that the system runs on. Raises: OSError."""
    for names, words in ((mounted_on(address), "mounted"), (up_on(address), "up, with an address")):
        if names:
            raise OSError("left alone: %s is %s" % (", ".join(names), words))


# ------------------------------------------------------------------------------------------------------------ binding
def has_driver(address, driver):
    """Say whether nothing is to be taken away when the function at *address* gets *driver*."""
    return driver_of(address) in ("", registered(driver))


def bind(address, driver):
    """Bind the function at *address* to *driver* (``none``: to no driver), unless it is. Raises: OSError."""
    if not has_driver(address, driver):
        refuse_used(address)
    load(driver)
    driver = registered(driver)
    override(address, driver)
    bound = driver_of(address)  # read now: once the override stands no other driver takes it
    if bound == ("" if driver == UNBOUND else driver):
        return
    if bound:
        refuse_used(address)  # again: the driver that had it a moment ago may be another, or none
        write("%s/drivers/%s/unbind" % (PCI, bound), address)
    if driver != UNBOUND:
        write(PCI + "/drivers_probe", address)
    say("%s: was bound to %s, is bound to %s" % (address, bound or UNBOUND, driver_of(address) or UNBOUND))


def bind_virtio(address, driver):
    """Bind the virtio function at *address* to virtio-pci, and what is behind it to *driver*. Raises: OSError."""
    bind(address, "virtio-pci")
    load(driver, VIRTIO)
    for path in glob.glob("%s%s/virtio*" % (ROOT, device(address))):
        bound = os.path.basename(os.path.realpath(path + "/driver")) if os.path.islink(path + "/driver") else ""
        if bound and bound != driver:
            refuse_used(address)
            write("%s/drivers/%s/unbind" % (VIRTIO, bound), os.path.basename(path))
        if bound != driver:
            write("%s/drivers/%s/bind" % (VIRTIO, driver), os.path.basename(path))


def group_of(address):
    """Return the functions that VFIO takes together with *address*: its IOMMU group without bridges."""
    folder = ROOT + device(address) + "/iommu_group/devices"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [name for name in names if read(device(name) + "/class")[:6] not in BRIDGES] or [address]


def bind_with_group(address, driver):
    """Bind the function at *address*, and for VFIO its group: the others to vfio-pci, unless VFIO has them.

    Raises: OSError.
    """
    drivers = {address: driver}
    if driver.endswith(VFIO_ENDINGS):
        others = [name for name in group_of(address) if not driver_of(name).endswith(VFIO_ENDINGS)]
        drivers.update((name, VFIO) for name in others if name != address)
    for member, wanted in drivers.items():
        if not has_driver(member, wanted):
            refuse_used(member)  # before the first is touched: half a group serves nobody
    for member, wanted in drivers.items():
        bind(member, wanted)


def indexes(vfs):
    """Return the indexes of a range such as ``0-3`` or ``5``."""
    first, dash, last = vfs.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def wait_for_driver(address):
    """Wait until the function has a driver: it is the driver that makes VFs."""
    until = time.monotonic() + DRIVER_TIMEOUT_S
    while not driver_of(address) and time.monotonic() < until:
        time.sleep(POLL_S)


def virtual_function(address, index):
    """Return the address of the VF *index* of the function at *address*."""
    return os.path.basename(os.path.realpath("%s%s/virtfn%d" % (ROOT, device(address), index)))


def make_vfs(address, count, groups):
    """Make *count* VFs, unless there are some, and bind them as *groups* say. Raises: OSError."""
    wait_for_driver(address)
    found = int(read(device(address) + "/sriov_numvfs") or 0)
    if found not in (0, count):
        say("%s: has %d VFs already; %d are declared, and those that are there may be in use" % (address, found, count))
        return
    drivers = {index: group["driver"] for group in groups for index in indexes(group["vfs"])}
    autoprobe = device(address) + "/sriov_drivers_autoprobe"
    before = read(autoprobe)
    if found == 0:
        if drivers and before == "1":
            write(autoprobe, "0")
        try:
            write(device(address) + "/sriov_numvfs", str(count))
            say("%s: made %d VFs" % (address, count))
            for index, driver in drivers.items():
                override(virtual_function(address, index), registered(driver))
        finally:
            if drivers and before == "1":
                write(autoprobe, "1")
    for index in range(count):
        virtual = virtual_function(address, index)
        if index in drivers:
            bind(virtual, drivers[index])
        elif before == "1" and not driver_of(virtual):
            write(PCI + "/drivers_probe", virtual)


def restore(address):
    """Make the device at *address* what its file says; without a file nothing is done. Raises: OSError, ValueError."""
    names = glob.glob("%s%s/%s.json" % (ROOT, DEVICES, glob.escape(address)))
    if not names or not os.path.isdir(ROOT + device(address)):
        return
    with open(names[0], encoding="utf-8") as file:
        wanted = json.load(file)
    differs = difference(wanted.get("identity") or {}, identity(address))
    if differs:
        raise ValueError("left alone: %s is for another device: %s" % (names[0][len(ROOT) :], differs))
    driver = wanted.get("driver")
    if driver and driver.startswith("virtio_") and read(device(address) + "/vendor") == VIRTIO_VENDOR:
        bind_virtio(address, driver)
    elif driver:
        bind_with_group(address, driver)
    if wanted.get("num_vfs"):
        make_vfs(address, wanted["num_vfs"], wanted.get("vf_drivers") or [])


def take_lock():
    """Take the host's lock, which goes with this process. Raises: OSError, where it is not free in time."""
    os.makedirs(os.path.dirname(ROOT + LOCK), exist_ok=True)
    handle = os.open(ROOT + LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # noqa: PERF203 -- it waits anyway
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
        else:
            return


def main(arguments):
    """Restore each of the devices named; return how the unit ends."""
    failed = False
    for address in arguments:
        try:
            take_lock()
            restore(address)
        except (OSError, ValueError, KeyError) as exc:  # noqa: PERF203 -- one device is the rule
            failed = True
            with contextlib.suppress(OSError):
                say("%s: %s" % (address, exc))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
