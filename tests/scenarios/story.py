# SPDX-License-Identifier: Apache-2.0
"""How a scenario is read: short words of a story become policies, facts and terms; `test_scenarios` calls it. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import History, Host, Plan
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import Reboot

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)

#: A device that a story need not describe: an idle PF of a QAT card.
DEVICE: dict[str, Any] = {
    "address": "0000:6b:00.0",
    "vendor_id": "8086",
    "product_id": "4940",
    "class_id": "0b4000",
    "driver": "4xxx",
    "iommu_group": 12,
    "total_vfs": 16,
    "num_vfs": 0,
}


def policy_of(words: dict[str, Any], number: int) -> Located[AcceleratorPolicy]:
    """Return the policy that *words* (a spec, with its name) declare."""
    spec = dict(words)
    name = spec.pop("name", f"policy-{number}")
    spec.setdefault("host_selector", {"groups": ["all"]})
    if "sriov" in spec or "binding" in spec:
        spec.setdefault("device_selector", {"vendor_id": "8086"})
    document = AcceleratorPolicy.model_validate(
        {"api_version": "cyborg/v1", "kind": "AcceleratorPolicy", "metadata": {"name": name}, "spec": spec},
        strict=False,
    )
    return Located(document, f"{name}.yml", {"spec": 5})


def driver_of(words: dict[str, Any]) -> Located[Driver]:
    """Return the catalogue entry that *words* (a spec, with its name) make."""
    spec = dict(words)
    name = spec.pop("name")
    document = Driver.model_validate(
        {"api_version": "cyborg/v1", "kind": "Driver", "metadata": {"name": name}, "spec": spec}, strict=False
    )
    return Located(document, f"{name}.yml", {})


def facts_of(words: dict[str, Any]) -> Facts:
    """Return the facts of a host that *words* describe; VFs given under a device become devices of their own."""
    devices: list[dict[str, Any]] = []
    for device in words.get("devices", [words.get("device", {})]):
        described = {**DEVICE, **device}
        vfs = described.pop("vf_devices", [])
        if vfs:
            described["vfs"] = [vf_address(described["address"], index) for index in range(len(vfs))]
            described.setdefault("num_vfs", len(vfs))
        devices.append(described)
        devices += [
            {
                **DEVICE,
                "product_id": "4941",
                "total_vfs": None,
                "num_vfs": None,
                "address": vf_address(described["address"], index),
                "physfn": described["address"],
                "vf_index": index,
                **vf,
            }
            for index, vf in enumerate(vfs)
        ]
    kernel = {
        "release": "6.1.0-40-amd64",
        "architecture": "x86_64",
        "boot_id": "boot-1",
        "boot_loader": "grub",
        "iommu_enabled": True,
        "os_family": "debian",
        **words.get("kernel", {}),
    }
    kernel.setdefault(
        "kernels", [{"release": kernel["release"], "headers": True, "initramfs": True, "next_boot": True}]
    )
    drivers = {"modules": [], "dkms_present": True, **words.get("drivers", {})}
    document = {
        "facts_version": 1,
        "hostname": "compute-7",
        "devices": devices,
        "drivers": drivers,
        "kernel": kernel,
        "fingerprint": "f",
        **{key: words[key] for key in ("ownership", "ownership_unknown") if key in words},
    }
    return msgspec.convert(document, Facts)


def vf_address(pf: str, index: int) -> str:
    """Return where a story's VF is."""
    return f"{pf[:-4]}{1 + index // 8:02x}.{index % 8}"


def plan_of(given: dict[str, Any]) -> Plan:
    """Return the plan that the core makes of what a story gives."""
    policies = given.get("policies", [given["policy"]] if "policy" in given else [])
    declared = Declared(
        policies=tuple(policy_of(words, number) for number, words in enumerate(policies, 1)),
        drivers=tuple(map(driver_of, given.get("drivers", []))),
    )
    compiled = compile_policies(declared)
    subject = lay_out(facts_of(given.get("host", {})), compiled.catalogue)
    labels = given.get("labels", {})
    host = Host("compute-7", frozenset(given.get("groups", ["crypto"])), labels)
    terms = Terms(
        controller_id="us",
        reboot=Reboot.model_validate(given.get("reboot", {})),
        history=History(**{**given.get("history", {}), "boots": tuple(given.get("history", {}).get("boots", ()))}),
        now=NOW,
        observed_at=NOW - timedelta(seconds=given.get("facts_age_s", 0)),
    )
    return make_plan(host.name, resolve(compiled, host, subject), subject, terms)
