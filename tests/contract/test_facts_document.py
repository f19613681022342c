# SPDX-License-Identifier: Apache-2.0
"""Do the collection, which writes the facts, and the controller, which reads them, mean the same document?"""

import json
from dataclasses import replace

import msgspec
import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather, gather_devices, gather_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import device_file, render_device
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.documents import facts as documents
from cyborg_reconciler.documents.facts import Unknown, VfDriver, decode_facts
from cyborg_reconciler.errors import FactsUnreadableError
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree

MACHINES = {machine.name: machine for machine in samples.demo_machines()}
PORT = "0000:ca:00.1"
MODULES = f"/lib/modules/{MACHINES['nic-1'].kernels[0]}"


#: The marks that facts have, and of what each is.
PLACES = (("host", "fingerprint"), ("host", "system_uuid"), ("kernel", "boot_id"), ("device", "macs"))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    for name, machine in MACHINES.items():
        write_tree(machine, folder / name)
    return folder


def read(root, **options):
    return decode_facts(json.dumps(gather(Tree(str(root)), **options)))


@pytest.mark.parametrize("name", MACHINES)
def test_what_the_collection_writes_the_controller_reads(roots, name):
    facts = read(roots / name, connection="local")
    assert facts.hostname == name
    assert {device.address for device in facts.devices} == {each.address for each in MACHINES[name].functions}
    assert facts.kernel.boot_id
    assert facts.fingerprint


@pytest.mark.parametrize("name", MACHINES)
def test_the_controller_keeps_every_word_that_the_collection_says(roots, name):
    written = gather(Tree(str(roots / name)), connection="local", packages=True)
    kept = msgspec.to_builtins(decode_facts(json.dumps(written)))
    assert _lost(written, kept) == []


def _lost(written, kept, path=""):
    """Return where *kept* lacks or changes something of *written*."""
    if isinstance(written, dict) and isinstance(kept, dict):
        return [each for key in written for each in _lost(written[key], kept.get(key), f"{path}/{key}")]
    if isinstance(written, list) and isinstance(kept, list) and len(written) == len(kept):
        return [each for index, item in enumerate(written) for each in _lost(item, kept[index], f"{path}/{index}")]
    return [] if written == kept else [f"{path}: {written!r} became {kept!r}"]


def fields_of(struct):
    return {field.name for field in msgspec.structs.fields(struct)}


def test_both_sides_name_the_same_fields(roots):
    tree = Tree(str(roots / "gpu-1"))
    document = gather(tree, connection="local")
    drivers = gather_drivers(tree, modules=["dca"], packages=True)
    assert set(document) == fields_of(documents.Facts)
    assert set(gather_devices(tree)[0]) == fields_of(documents.Device)
    assert set(drivers) == fields_of(documents.Drivers)
    assert set(drivers["modules"][0]) == fields_of(documents.Module)
    assert set(document["kernel"]) == fields_of(documents.KernelFacts)
    assert set(document["kernel"]["kernels"][0]) == fields_of(documents.Kernel)


def test_the_controllers_own_port_is_protected_and_others_are_not(roots):
    facts = read(roots / "nic-1", connection="local")
    protected = {device.address for device in facts.devices if device.protected}
    assert "0000:ca:00.0" in protected
    assert PORT not in protected


def test_what_persists_arrives_as_ranges(tmp_path):
    write_tree(MACHINES["nic-1"], tmp_path)
    text = render_device(PORT, {}, num_vfs=8, vf_drivers=[{"vfs": "0-7", "driver": "vfio-pci"}])
    path = tmp_path / device_file(PORT).lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    device = read(tmp_path).device(PORT)
    assert device is not None
    assert (device.boot_num_vfs, device.boot_vf_drivers) == (8, [VfDriver("0-7", "vfio-pci")])


@pytest.mark.parametrize(
    ("path", "fact"),
    [
        (f"/sys/bus/pci/devices/{PORT}/numa_node", lambda facts: facts.device(PORT).numa_node),
        (f"/sys/bus/pci/devices/{PORT}/sriov_numvfs", lambda facts: facts.device(PORT).num_vfs),
        (f"/sys/bus/pci/devices/{PORT}/driver_override", lambda facts: facts.device(PORT).driver_override),
        ("/etc/machine-id", lambda facts: facts.machine_id),
        ("/proc/cmdline", lambda facts: facts.kernel.args_running),
        ("/etc/default/grub", lambda facts: facts.kernel.args_configured),
        ("/boot/grub/grub.cfg", lambda facts: facts.kernel.args_next_boot),
        (f"/sys/bus/pci/devices/{PORT}/modalias", lambda facts: facts.device(PORT).modalias),
        ("/proc/modules", lambda facts: facts.drivers.modules[0].loaded),
        (f"{MODULES}/modules.dep", lambda facts: facts.drivers.modules[0].path),
        (f"{MODULES}/modules.alias", lambda facts: facts.device(PORT).modules),
        ("/usr/lib/os-release", lambda facts: facts.kernel.os_family),
        ("/proc/sys/kernel/osrelease", lambda facts: facts.kernel.release),
        ("/proc/sys/kernel/random/boot_id", lambda facts: facts.kernel.boot_id),
        ("/proc/sys/kernel/hostname", lambda facts: facts.hostname),
        ("/proc/sys/kernel/arch", lambda facts: facts.kernel.architecture),
        ("/sys/kernel/security/lockdown", lambda facts: facts.kernel.lockdown),
    ],
)
def test_what_cannot_be_read_arrives_as_unknown(tmp_path, path, fact):
    write_tree(MACHINES["nic-1"], tmp_path)
    assert not isinstance(fact(read(tmp_path)), Unknown)
    place = tmp_path / path.lstrip("/")
    place.unlink()
    place.mkdir()  # root reads every file; a folder in its place nobody reads
    assert isinstance(fact(read(tmp_path)), Unknown)


def test_a_function_that_cannot_be_looked_into_arrives_as_unknown_among_the_others(tmp_path):
    write_tree(MACHINES["nic-1"], tmp_path)
    there = {device.address for device in read(tmp_path).devices}
    link = tmp_path / f"sys/bus/pci/devices/{PORT}"
    link.unlink()
    link.write_text("in the place of a folder: nobody lists it, root neither")
    facts = read(tmp_path, connection="local")
    blind = facts.device(PORT)
    assert {device.address for device in facts.devices} == there
    for fact in (blind.vendor_id, blind.product_id, blind.class_id, blind.physfn, blind.nvme_names, blind.mdev_types):
        assert isinstance(fact, Unknown)
    assert isinstance(blind.protected, list)
    assert blind.protected[0].reason == "unknown"


def test_a_hostile_serial_number_arrives_as_harmless_data(tmp_path):
    write_tree(MACHINES["nic-1"], tmp_path)
    hostile = "{{ lookup('pipe', 'touch /tmp/x') }}\x1b[2J\n\u202e"
    serial = tmp_path / "sys/class/nvme/nvme1/serial"
    serial.write_text(hostile + "x" * 5000, encoding="utf-8")
    device = read(tmp_path).device("0000:c2:00.0")
    assert device is not None
    assert isinstance(device.serial, str)
    assert device.serial.isprintable()
    assert len(device.serial) <= 1024


def test_facts_that_name_no_packages_are_read_and_those_that_do_are_others(roots):
    bare, full = read(roots / "nic-1"), read(roots / "nic-1", packages=True)
    assert {module.package for module in bare.drivers.modules} == {None}
    nvme = next(module for module in full.drivers.modules if module.name == "nvme")
    assert (nvme.package, nvme.installed_version, nvme.installed_by) == (
        "linux-image-6.1.0-28-amd64",
        "6.1.119-1",
        "dpkg",
    )


def test_facts_of_another_version_are_refused(roots):
    document = gather(Tree(str(roots / "nic-1")))
    with pytest.raises(FactsUnreadableError, match="version 2"):
        decode_facts(json.dumps(dict(document, facts_version=2)))


@pytest.mark.parametrize(
    ("place", "field", "odd"),
    [
        *((place, field, odd) for place, field in PLACES for odd in ("x" * 65, "\x00" * 64, "two\nlines")),
        *(("device", f"{what}_id", odd) for what in ("vendor", "product") for odd in ("808", "8086\n", "808G")),
        *(("device", "address", odd) for odd in ("0000:ca:00.0\n", f"{'0' * 60}:ca:00.0")),
    ],
)
def test_facts_with_marks_that_are_none_or_that_the_journal_has_no_room_for_are_unreadable(roots, place, field, odd):
    document = gather(Tree(str(roots / "nic-1")))
    of_field = {"host": document, "kernel": document["kernel"], "device": document["devices"][0]}[place]
    of_field[field] = [odd] if field == "macs" else odd
    with pytest.raises(FactsUnreadableError, match=f"matching regex.*{field}"):
        decode_facts(json.dumps(document))


def test_the_fingerprint_survives_the_journey_and_tells_machines_apart(roots, tmp_path):
    facts = read(roots / "nic-1")
    assert read(roots / "nic-1", connection="local").fingerprint == facts.fingerprint
    assert read(roots / "qat-1").fingerprint != facts.fingerprint
    write_tree(replace(MACHINES["nic-1"], name="nic-2"), tmp_path)
    assert read(tmp_path).fingerprint != facts.fingerprint
