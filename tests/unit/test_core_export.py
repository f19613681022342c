# SPDX-License-Identifier: Apache-2.0
"""What `export` writes of hosts that people know; that it asks for nothing is a law of its own."""

from typing import Any

from cyborg_reconciler.core.export import Export, describe
from cyborg_reconciler.core.subject import lay_out
from tests.scenarios.story import driver_of, facts_of

DRIVERS: list[dict[str, Any]] = [
    {"name": "qat", "device_type": "CRYPTO", "match": [{"vendor_id": "8086"}], "kernel_module": "4xxx"},
    {"name": "generic-pci", "device_type": "GENERIC"},
]
CATALOGUE = {spec["name"]: driver_of(dict(spec)).document.spec for spec in DRIVERS}


def exported(**hosts: dict[str, Any]) -> Export:
    return describe({name.replace("_", "-"): lay_out(facts_of(words), CATALOGUE) for name, words in hosts.items()})


def specs(export: Export) -> list[dict[str, Any]]:
    return [
        {key: one for key, one in document["spec"].items() if key != "host_selector"} for document in export.documents
    ]


def test_a_bare_host_needs_no_policy() -> None:
    assert exported(compute_1={}) == Export((), ())


def test_vfs_are_told_with_what_they_are_bound_to() -> None:
    vfs = [{"driver": "vfio-pci"}, {"driver": "vfio-pci"}]
    assert specs(exported(compute_1={"device": {"vf_devices": vfs}})) == [
        {
            "device_selector": {"vendor_id": "8086", "product_id": ["4940"]},
            "sriov": {"num_vfs": 2, "vf_driver": "vfio-pci"},
        }
    ]


def test_vfs_that_are_bound_in_several_ways_are_told_by_range() -> None:
    vfs = [{"driver": "vfio-pci"}, {"driver": None}, {}]
    [spec] = specs(exported(compute_1={"device": {"vf_devices": vfs}}))
    assert spec["sriov"] == {
        "num_vfs": 3,
        "groups": [
            {"vfs": "0", "driver": "vfio-pci"},
            {"vfs": "1", "driver": "none"},
            {"vfs": "2", "driver": "4xxxvf"},
        ],
    }


def test_devices_that_are_not_set_alike_are_told_by_address() -> None:
    devices = [{"vf_devices": [{}]}, {"address": "0000:6c:00.0"}]
    [spec] = specs(exported(compute_1={"devices": devices}))
    assert spec["device_selector"] == {"addresses": ["0000:6b:00.0"]}


def test_a_device_that_was_given_to_vfio_pci_is_told_and_its_native_driver_is_not() -> None:
    devices = [
        {"driver": "vfio-pci", "driver_override": "vfio-pci"},
        {"address": "0000:6c:00.0", "product_id": "4942"},
    ]
    assert specs(exported(compute_1={"devices": devices})) == [
        {"device_selector": {"vendor_id": "8086", "product_id": ["4940"]}, "binding": {"driver": "vfio-pci"}}
    ]


def test_the_hosts_own_settings_stand_in_one_policy() -> None:
    host = {
        "kernel": {"args": "quiet intel_iommu=on iommu=pt vfio-pci.ids=8086:4940 console=tty0 hugepages=16"},
        "modules": [{"name": "vfio_pci", "loaded": True, "parameters": {"disable_vga": "Y"}}, {"name": "nouveau"}],
        "drivers": {
            "load": ["vfio-pci"],
            "blacklisted": ["nouveau", "pcspkr"],
            "options": {"vfio-pci": {"disable_vga": "1"}, "snd": {"index": "0"}},
        },
    }
    assert specs(exported(compute_1=host)) == [
        {
            "kernel_args": {"hugepages": "16", "intel_iommu": "on", "iommu": "pt", "vfio-pci.ids": "8086:4940"},
            "kernel_modules": {
                "blacklist": ["nouveau"],
                "load": ["vfio-pci"],
                "options": {"vfio-pci": {"disable_vga": "1"}},
            },
        }
    ]


def test_a_driver_of_the_catalogue_that_drives_its_device_is_told() -> None:
    host = {"modules": [{"name": "4xxx", "loaded": True, "devices": ["0000:6b:00.0"]}]}
    assert specs(exported(compute_1=host)) == [{"driver": {"name": "qat"}}]


def test_what_differs_between_now_and_the_next_boot_is_left_out_with_the_reason() -> None:
    found = exported(compute_1={"kernel": {"running": "iommu=pt", "next_boot": "iommu=strict"}})
    assert not found.documents
    assert found.left_out == ("compute-1: kernel argument iommu is left out: kernel_args.boot.iommu is strict",)


def test_what_could_not_be_read_is_left_out_with_the_reason() -> None:
    found = exported(compute_1={"device": {"num_vfs": {"unknown": "permission denied"}}})
    assert found.left_out == ("compute-1: 0000:6b:00.0 is left out: num_vfs is unknown (permission denied)",)


def test_several_page_sizes_are_left_out_since_their_order_counts() -> None:
    found = exported(compute_1={"kernel": {"args": "hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512"}})
    assert not found.documents
    assert len(found.left_out) == 2


def test_hosts_that_are_alike_share_a_policy_that_names_them() -> None:
    vfs: dict[str, Any] = {"device": {"vf_devices": [{}]}}
    found = exported(compute_2=vfs, compute_1=vfs, storage_1={})
    [document] = found.documents
    assert document["metadata"] == {
        "name": "compute-2-sriov",
        "description": "What compute-2 and 1 more had when it was adopted",
    }
    assert document["spec"]["host_selector"] == {"names": ["compute-2", "compute-1"]}


def test_a_host_that_no_selector_can_name_is_left_out() -> None:
    subject = lay_out(facts_of({"device": {"vf_devices": [{}]}}), CATALOGUE)
    found = describe({"fe80::1": subject, "compute-*": subject, "Compute_1.example": subject})
    assert [document["metadata"]["name"] for document in found.documents] == ["compute-1.example-sriov"]
    assert [line.partition(":")[0] for line in found.left_out] == ["fe80", "compute-*"]


def test_what_was_set_on_a_host_and_a_policy_cannot_tell_is_named() -> None:
    words = {
        "modules": [{"name": "nouveau"}],
        "drivers": {"blacklisted": ["nouveau"]},
        "owned": {"host kernel_modules blacklist nouveau": None, "host kernel_args gone": "1"},
    }
    (note,) = [note for note in exported(compute_1=words).left_out if "is undone" in note]
    assert note == "compute-1: was set here, and is undone by a plan made of this export: host kernel_args gone"
