# SPDX-License-Identifier: Apache-2.0
"""How a scenario is read: short words of a story become policies, facts and terms; `test_scenarios` calls it. Pure.

What a story need not say: one host `compute-7` of group `crypto`, with one idle QAT card at 0000:6b:00.0; policies are
for all hosts and, where they speak of devices, for all of Intel's. `given` may hold:

    policy, policies   a spec, or several, each with its `name`
    drivers            the catalogue: specs, each with its `name`
    host               device or devices (with `num_vfs` or `vf_devices`, one dict a VF), kernel, modules, drivers
                       (modprobe's configuration, DKMS), owned ({"<target> <feature> <field>": value before}), owned_of
                       (the device that it was for), owner, ownership_unknown
    host.kernel        the facts' section; `args` is the command line everywhere, `configured`, `next_boot` and
                       `running` where they differ
    groups, labels     of the host in the inventory
    reboot, history    the pool's block; what the journal remembers
    facts_age_s        how old the facts are
    connection         false for a host that only its agent knows
    failed_in          the phase in which the host's last change failed
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import yaml

from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import Desired, compile_policies, resolve
from cyborg_reconciler.core.state import History, Host, Plan
from cyborg_reconciler.core.subject import Subject, lay_out
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import Reboot

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
US = "us"

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

#: What a VF has of its own.
VF: dict[str, Any] = {"product_id": "4941", "driver": "4xxxvf", "total_vfs": None, "num_vfs": None}

KERNEL: dict[str, Any] = {
    "release": "6.1.0-40-amd64",
    "architecture": "x86_64",
    "boot_id": "boot-1",
    "boot_loader": "grub",
    "iommu_enabled": True,
    "os_family": "debian",
}


def _is_old(tag: str, first: str) -> bool:
    """Return whether YAML 1.1 alone resolves words that begin so to *tag*."""
    return tag.endswith(":timestamp") or (tag.endswith(":bool") and first not in "tTfF")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # some builds have no libyaml
    """Reads stories, a dozen times as fast as a parser in Python; `on`, `yes` and dates are text, as in policies."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in rules if not _is_old(tag, first)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_stories(path: Path) -> list[dict[str, Any]]:
    """Return the stories of a file."""
    stories: list[dict[str, Any]] = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - a safe one
    return stories


def policy_of(words: dict[str, Any], number: int) -> Located[AcceleratorPolicy]:
    """Return the policy that *words* (a spec, with its name) declare."""
    spec = dict(words)
    name = spec.pop("name", f"policy-{number}")
    lines = {"spec": 4, **{path: line for line, path in enumerate(_paths(spec, "spec."), 5)}}
    spec.setdefault("host_selector", {"groups": ["all"]})
    if not {"state", "sriov", "binding"}.isdisjoint(spec):
        spec.setdefault("device_selector", {"vendor_id": "8086"})
    document = AcceleratorPolicy.model_validate(
        {"api_version": "cyborg/v1", "kind": "AcceleratorPolicy", "metadata": {"name": name}, "spec": spec},
        strict=False,
    )
    return Located(document, f"{name}.yml", lines)


def _paths(spec: dict[str, Any], stem: str) -> Iterator[str]:
    """Yield the dotted path of each line that *spec* would take in a file."""
    for key, value in spec.items():
        yield f"{stem}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{stem}{key}.")


def driver_of(words: dict[str, Any]) -> Located[Driver]:
    """Return the catalogue entry that *words* (a spec, with its name) make."""
    spec = dict(words)
    name = spec.pop("name")
    document = Driver.model_validate(
        {"api_version": "cyborg/v1", "kind": "Driver", "metadata": {"name": name}, "spec": spec}, strict=False
    )
    return Located(document, f"{name}.yml", {})


def facts_of(words: dict[str, Any]) -> Facts:
    """Return the facts of a host that *words* describe."""
    modules = [{"loaded": False, "path": f"{module['name']}.ko", **module} for module in words.get("modules", [])]
    document = {
        "facts_version": 1,
        "hostname": "compute-7",
        "devices": list(_devices(words)),
        "drivers": {"modules": modules, "dkms_present": True, **words.get("drivers", {})},
        "kernel": _kernel(words.get("kernel", {})),
        "fingerprint": "f",
        "ownership": _ownership(words),
        "ownership_unknown": words.get("ownership_unknown"),
    }
    return msgspec.convert(document, Facts)


def _devices(words: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each device, and after it the VFs that are described under it."""
    for device in words.get("devices", [words.get("device", {})]):
        described = {**DEVICE, **device}
        count = described["num_vfs"] if isinstance(described["num_vfs"], int) else 0
        vfs = described.pop("vf_devices", [{} for _ in range(count)])
        address = described["address"]
        if vfs:
            described["vfs"] = [vf_address(address, index) for index in range(len(vfs))]
            described["num_vfs"] = device.get("num_vfs", len(vfs))
        yield described
        for index, vf in enumerate(vfs):
            of_pf = {"address": vf_address(address, index), "physfn": address, "vf_index": index}
            yield {**DEVICE, **VF, **of_pf, **vf}


def _kernel(words: dict[str, Any]) -> dict[str, Any]:
    words = dict(words)
    line = words.pop("args", "quiet")
    places = (("args_configured", "configured"), ("args_next_boot", "next_boot"), ("args_running", "running"))
    args = {fact: words.pop(place, line) for fact, place in places}
    split = {fact: text.split() if isinstance(text, str) else text for fact, text in args.items()}
    kernel = {**KERNEL, **split, **words}
    here = {"release": kernel["release"], "headers": True, "initramfs": True, "next_boot": True}
    return {"kernels": [here], **kernel}


def _ownership(words: dict[str, Any]) -> dict[str, Any] | None:
    if "owned" not in words and "owner" not in words:
        return None
    of = words.get("owned_of", "")
    owned = words.get("owned", {}).items()
    fields = [{"path": path.split(), "before": before, "set": None, "device": of} for path, before in owned]
    return {"controller_id": words.get("owner", US), "fencing_token": 1, "fields": fields}


def vf_address(pf: str, index: int) -> str:
    """Return where a story's VF is."""
    return f"{pf[:-4]}{1 + index // 8:02x}.{index % 8}"


def plan_of(given: dict[str, Any]) -> Plan:
    """Return the plan that the core makes of what a story gives."""
    return looked_at(given)[2]


def looked_at(given: dict[str, Any]) -> tuple[Desired, Subject, Plan]:
    """Return what is desired of the host of a story, its facts, and the plan that the core makes of them."""
    policies = given.get("policies", [given["policy"]] if "policy" in given else [])
    declared = Declared(
        policies=tuple(policy_of(words, number) for number, words in enumerate(policies, 1)),
        drivers=tuple(map(driver_of, given.get("drivers", []))),
    )
    compiled = compile_policies(declared)
    subject = lay_out(facts_of(given.get("host", {})), compiled.catalogue)
    host = Host("compute-7", frozenset(given.get("groups", ["crypto"])), given.get("labels", {}))
    history = given.get("history", {})
    terms = Terms(
        controller_id=US,
        reboot=Reboot.model_validate(given.get("reboot", {})),
        history=History(**{**history, "boots": tuple(history.get("boots", ()))}),
        now=NOW,
        observed_at=NOW - timedelta(seconds=given.get("facts_age_s", 0)),
        connection=given.get("connection", True),
    )
    desired = resolve(compiled, host, subject)
    return desired, subject, make_plan(host.name, desired, subject, terms)
