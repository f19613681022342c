# SPDX-License-Identifier: Apache-2.0
"""Which policies describe what hosts have now, so that a fleet that exists is adopted without a change?

Called by the CLI's `export`. A setting goes into a policy only when the features themselves observe it as desired, now
and at the next boot: with the exported policies there is nothing to do. Pure: facts in, plain data out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cyborg_reconciler.core import ranges, vfs
from cyborg_reconciler.core.features import FEATURES
from cyborg_reconciler.core.features.base import DesireError, Leaf
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import HOST, Host, Origin, Unknown, words_of
from cyborg_reconciler.core.subject import (
    BOUND_ON_PURPOSE,
    UNBOUND,
    Subject,
    as_observed,
    driver_proper,
    lacks_ids,
    matches,
    module_name,
    parse_arguments,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.base import API_VERSION
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.policy import AcceleratorPolicy, PolicySpec

#: Kernel arguments that concern accelerators, beside those of modules (``vfio_pci.ids``).
#: Source: Linux, Documentation/admin-guide/kernel-parameters.txt.
ARGUMENTS: Final = re.compile(
    r"(intel_|amd_)?iommu|(default_)?hugepages(z)?|pci|pcie_\w+|vfio.*|modprobe\.blacklist|module_blacklist"
)

#: Each size stands before its count on the command line; a policy keeps no order between two names.
PAIRED: Final = frozenset({"hugepages", "hugepagesz"})

#: The longest part of a policy's name that is taken from a host's.
_NAME_LENGTH: Final = 36

_NOBODY: Final = Origin("export")

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """Policies as plain data, ready for YAML; and, in words, what was left out of them and why."""

    documents: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...]


def describe(subjects: Mapping[str, Subject]) -> Export:
    """Return the policies that describe the hosts *subjects*; hosts that are alike share theirs."""
    alike: dict[str, list[str]] = {}
    left_out: list[str] = []
    for host, subject in subjects.items():
        if problem := _unfit(host):
            left_out.append(f"{host}: {problem}")
            continue
        specs, notes = _specs(subject)
        left_out += [f"{host}: {note}" for note in notes]
        if specs:
            alike.setdefault(json.dumps(specs, sort_keys=True), []).append(host)
    names: set[str] = set()
    documents = [document for key, hosts in alike.items() for document in _documents(json.loads(key), hosts, names)]
    left_out += _undone(documents, subjects)
    return Export(tuple(documents), tuple(left_out))


def _undone(documents: Sequence[Mapping[str, Any]], subjects: Mapping[str, Subject]) -> Iterator[str]:
    """Yield what this or another controller set on the hosts that *documents* would have go back to what it was."""
    policies = (AcceleratorPolicy.model_validate(document, strict=False) for document in documents)
    compiled = compile_policies(Declared(policies=tuple(Located(policy, "", {}) for policy in policies)))
    for host, subject in subjects.items():
        paths = resolve(compiled, Host(host), subject).restored if subject.owned else ()
        if paths:
            fields = ", ".join(" ".join(path) for path in sorted(paths))
            yield f"{host}: was set here, and is undone by a plan made of this export: {fields}"


def _unfit(host: str) -> str:
    """Return why no host_selector can name *host*; empty when one can."""
    try:
        PolicySpec.model_validate({"host_selector": {"names": [host]}}, strict=False)
    except ValueError:
        return "a host_selector cannot say this name; give the host another one in the inventory"
    return "a host_selector takes this name for a pattern" if set(host) & set("*?[") else ""


def _documents(specs: Sequence[Spec], hosts: Sequence[str], names: set[str]) -> Iterator[dict[str, Any]]:
    others = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    stem = re.sub(r"[^a-z0-9.]+", "-", hosts[0].lower()).strip("-.")[:_NAME_LENGTH].strip("-.") or "host"
    for spec in specs:
        feature = next((name for name in ("driver", "sriov", "binding") if name in spec), "host")
        name, number = f"{stem}-{feature}", 1
        while name in names:
            number += 1
            name = f"{stem}-{feature}-{number}"
        names.add(name)
        yield {
            "api_version": API_VERSION,
            "kind": "AcceleratorPolicy",
            "metadata": {"name": name, "description": f"What {hosts[0]}{others} had when it was adopted"},
            "spec": {"host_selector": {"names": list(hosts)}, **spec},
        }


def _specs(subject: Subject) -> tuple[list[Spec], list[str]]:
    """Return the specs that describe one host, and what is left out."""
    notes: list[str] = []
    of_host: Spec = {}
    for words, part in (*_arguments(subject, notes), *_modules(subject)):
        if why := why_not(part, HOST, subject):
            notes.append(f"{words} is left out: {why}")
        else:
            _add(of_host, part)
    specs = [of_host] if of_host else []
    for words, part in _drivers(subject):
        if why := why_not(part, HOST, subject):
            notes.append(f"{words} is left out: {why}")
        else:
            specs.append(part)
    specs += _by_devices(subject, notes)
    return specs, notes


def _add(spec: Spec, part: Mapping[str, Any]) -> None:
    """Add *part* to *spec*: lists and mappings unite."""
    for key, value in part.items():
        if isinstance(value, dict):
            _add(spec.setdefault(key, {}), value)
        elif isinstance(value, list) and key in spec:
            spec[key] += value
        else:
            spec[key] = value


def why_not(part: Spec, target: str, subject: Subject) -> str:
    """Return why a policy with *part* would not be as desired on *target* already; empty when it would be."""
    selectors: Spec = {"host_selector": {"groups": ["all"]}}
    if target != HOST:
        selectors["device_selector"] = {"addresses": [target]}
    try:
        spec = PolicySpec.model_validate({**selectors, **part}, strict=False)
    except ValueError:
        return "a policy cannot say it"
    for feature in FEATURES:
        leaves = {said.key: Leaf(said.value, _NOBODY) for said in feature.declare(spec)}
        try:
            fields = list(feature.desire(leaves))
        except DesireError as exc:
            return str(exc)
        for tail, value, _ in fields:
            found = feature.observe((target, *tail), value, subject)
            if found != value or type(found) is not type(value):
                return f"{'.'.join(tail)} is {words_of(found)}"
    return ""


# ---------------------------------------------------------------------------------------------------------- the host's
def _arguments(subject: Subject, notes: list[str]) -> Iterator[tuple[str, Spec]]:
    """Yield each kernel argument that concerns accelerators, or that we own."""
    running = subject.facts.kernel.args_running
    values = parse_arguments(running)
    if isinstance(running, reported.Unknown) or isinstance(values, Unknown):
        notes.append(f"kernel arguments are left out: {values}")
        return
    written = {module_name(name): name for name in (word.partition("=")[0] for word in reversed(running))}
    owned = {module_name(path[-1]) for path in subject.owned if path[1] == "kernel_args"}
    for key, name in sorted(written.items()):
        module, dot, _ = key.partition(".")
        if not (ARGUMENTS.fullmatch(key) or key in owned or (dot and subject.module(module) is not None)):
            continue
        found = values[key]
        if key in PAIRED and len(found) > 1:
            notes.append(f"{name} is left out: of several page sizes the order counts, and a policy keeps none")
            continue
        yield f"kernel argument {name}", {"kernel_args": {name: list(map(str, found)) if len(found) > 1 else found[0]}}


def _modules(subject: Subject) -> Iterator[tuple[str, Spec]]:
    """Yield what is configured of the modules that the facts speak of: loaded, kept out, options."""
    drivers = subject.facts.drivers
    for kind, names in (("load", drivers.load), ("blacklist", drivers.blacklisted)):
        known = {} if isinstance(names, reported.Unknown) else {module_name(name): name for name in reversed(names)}
        for key, name in sorted(known.items()):
            if subject.module(key) is not None:
                yield f"kernel_modules.{kind} {name}", {"kernel_modules": {kind: [name]}}
    seen: dict[tuple[str, str], tuple[str, str, str]] = {}
    for module, options in drivers.options.items():
        for option, value in options.items():
            first = seen.get((module_name(module), module_name(option)), (module, option, ""))
            seen[module_name(module), module_name(option)] = (first[0], first[1], value)
    spelled: dict[str, str] = {}
    for (key, _), (module, option, value) in sorted(seen.items()):
        if subject.module(key) is not None or key.startswith("vfio"):
            name = spelled.setdefault(key, module)
            yield f"option {option} of {module}", {"kernel_modules": {"options": {name: {option: value}}}}


def _drivers(subject: Subject) -> Iterator[tuple[str, Spec]]:
    """Yield each driver of the catalogue whose module drives a device that it is for."""
    for name, spec in subject.catalogue.items():
        module = subject.module(spec.kernel_module) if spec.kernel_module else None
        if module is None:
            continue
        ours = (device for device in subject.facts.devices if matches(device, spec.match))
        if any(device.address in module.devices or driver_proper(device) == module.name for device in ours):
            yield f"driver {name}", {"driver": {"name": name}}


# --------------------------------------------------------------------------------------------------------- the devices'
def _by_devices(subject: Subject, notes: list[str]) -> Iterator[Spec]:
    """Yield a spec for each way that devices of the host are set."""
    alike: dict[str, list[reported.Device]] = {}
    for device in subject.facts.devices:
        if isinstance(device.physfn, str):  # a VF is described with its PF
            continue
        part, why = _binding(device, subject) if device.num_vfs in {0, None} else _sriov(device, subject)
        if why:
            notes.append(f"{device.address} is left out: {why}")
        if part:
            alike.setdefault(json.dumps(part, sort_keys=True), []).append(device)
    for key, devices in alike.items():
        part = json.loads(key)
        functions = [one for one in subject.facts.devices if not isinstance(one.physfn, str) or "binding" in part]
        for selector in _selectors(devices, functions):
            yield {"device_selector": selector, **part}


def _sriov(device: reported.Device, subject: Subject) -> tuple[Spec, str]:
    """Return the VFs of a PF with what they are bound to, or their count alone; and why not all can be said."""
    if not isinstance(device.num_vfs, int):
        return {}, f"num_vfs is {words_of(as_observed(device.num_vfs))}"
    counted: Spec = {"sriov": {"num_vfs": device.num_vfs}}
    whole: Spec = {"sriov": {"num_vfs": device.num_vfs, **_vf_drivers(device, subject)}}
    why = why_not(whole, device.address, subject)
    if not why:
        return whole, ""
    return ({} if why_not(counted, device.address, subject) else counted), why


def _vf_drivers(device: reported.Device, subject: Subject) -> Spec:
    found = vfs.drivers(ranges.OPEN, subject, device)
    groups = [] if isinstance(found, Unknown) else list(ranges.compress(found))
    if len(groups) == 1:
        return {"vf_driver": groups[0][1]}
    return {"groups": [{"vfs": text, "driver": driver} for text, driver in groups]} if groups else {}


def _binding(device: reported.Device, subject: Subject) -> tuple[Spec, str]:
    """Return what a device was bound to on purpose, or why that cannot be said."""
    if device.driver_override is None and device.driver not in BOUND_ON_PURPOSE:
        return {}, ""
    if isinstance(device.driver, reported.Unknown):
        return {}, f"what drives it is unknown ({device.driver.unknown})"
    part: Spec = {"binding": {"driver": device.driver or UNBOUND}}
    why = why_not(part, device.address, subject)
    return ({}, why) if why else (part, "")


def _selectors(devices: Sequence[reported.Device], functions: Sequence[reported.Device]) -> Iterator[Spec]:
    """Yield selectors of just *devices* among the host's *functions*: by their ids where these suffice."""
    wanted = {device.address for device in devices}
    if any(map(lacks_ids, functions)):
        yield {"addresses": sorted(wanted)}
        return
    for vendor in sorted({str(device.vendor_id) for device in devices}):
        ours = [device for device in devices if device.vendor_id == vendor]
        products = sorted({str(device.product_id) for device in ours})
        same = {one.address for one in functions if one.vendor_id == vendor and one.product_id in products}
        if same <= wanted:
            yield {"vendor_id": vendor, "product_id": products}
        else:
            yield {"addresses": sorted(device.address for device in ours)}
