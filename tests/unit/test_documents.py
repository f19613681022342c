# SPDX-License-Identifier: Apache-2.0
"""What the models say of themselves: examples that fit, words for every type, schemas that agree with the reader."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from cyborg_reconciler.documents.driver import DKMS_ROLE, Driver
from cyborg_reconciler.documents.parse import KINDS, parse_documents
from cyborg_reconciler.documents.policy import VfGroup
from cyborg_reconciler.documents.schema import combined_schema, schemas
from cyborg_reconciler.documents.wording import flow, model_at, names_of, spot_at

WHOLE = {
    "AcceleratorPolicy": """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: qat-sriov, description: "QAT for the crypto pool"}
spec:
  priority: 60
  mode: warn
  suspend: true
  host_selector: {groups: [crypto], names: ["compute-1*"], labels: {pool: crypto}}
  device_selector:
    {vendor_id: "8086", product_id: ["4940"], device_type: [CRYPTO], class: "0b40",
     addresses: ["0000:6b:00.0"], serials: [x], net_names: [ens1f0]}
  state: inactive
  driver: {name: virtio-crypto, version: "1.0", state: absent}
  kernel_args: {intel_iommu: on, nosmt: true, console: [tty0, ttyS0]}
  kernel_modules: {load: [vfio-pci], blacklist: [nouveau], options: {vfio-pci: {disable_vga: 1, ids: "8086:4940"}}}
  sriov: {num_vfs: 4, vf_driver: vfio-pci, groups: [{vfs: "0-1", driver: none}]}
""",
    "Driver": """\
api_version: cyborg/v1
kind: Driver
metadata: {name: edu}
spec:
  device_type: PROCESSING
  match: [{vendor_id: "1234", product_id: ["11e8"], class: "00ff"}]
  kernel_module: edu
  version: "1.0"
  features: [driver, binding]
  conflicts: [nouveau]
  dkms: {path: edu-1.0, package: edu}
""",
    "RolloutPool": """\
api_version: cyborg/v1
kind: RolloutPool
metadata: {name: crypto}
spec:
  host_selector: {groups: [crypto]}
  max_unavailable: 10%
  approval: automatic
  reboot: {allowed: true, timeout_s: 600, max_attempts: 1}
""",
}


def fields(model, keys=()):
    """Yield the place of every field below *model*, through lists and blocks of names."""
    for name in names_of(model):
        yield (*keys, name)
        for inner in ((name,), (name, 0)):
            below = model_at(model, inner)
            if below is not None:
                yield from ((*keys, *inner, *rest) for rest in fields(below))


PLACES = [
    pytest.param(model, keys, id=".".join(map(str, (kind, *keys))))
    for kind, model in KINDS.items()
    for keys in fields(model)
]


@pytest.mark.parametrize(("model", "keys"), PLACES)
def test_every_field_says_what_it_is_for_and_has_an_example_that_fits(model, keys):
    spot = spot_at(model, keys)
    assert spot.field.description or keys[-1] in {"api_version", "kind"}
    assert spot.words()
    example = spot.example()
    if keys[-1] not in {"api_version", "kind", "description", "metadata", "spec"}:
        assert example is not None
        (tree,) = [yaml.safe_load(flow({"x": example}))["x"]]
        assert spot.fits(tuples(tree))


def tuples(value):
    """Return *value* with tuples for lists, as the reader yields it."""
    if isinstance(value, dict):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_with_every_field_is_read_and_agrees_with_its_schema(kind):
    (located,) = parse_documents(WHOLE[kind], "a.yml").documents
    written = yaml.safe_load(WHOLE[kind])
    assert set(names_of(type(located.document.spec))) - set(written["spec"]) <= {"binding", "roles"}
    for schema in (schemas()[kind], combined_schema()):
        Draft202012Validator.check_schema(schema)
        assert not list(Draft202012Validator(schema).iter_errors(as_json(written)))


def as_json(document):
    """Return *document* as YAML 1.2 reads it: PyYAML, which reads 1.1, makes a boolean of the word on."""
    return json.loads(json.dumps(document).replace('"intel_iommu": true', '"intel_iommu": "on"'))


WRONG = [
    ("AcceleratorPolicy", {"api_version": None}),
    ("AcceleratorPolicy", {"kind": "Other"}),
    ("AcceleratorPolicy", {"spec": {}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {}}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {"groups": []}}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {"groups": ["all"]}, "device_selector": {"vendor_id": 8086}}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {"groups": ["all"]}, "device_selector": {"vendor_id": "80AB"}}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {"groups": ["all"]}, "kernel_args": {"a": 1}}}),
    ("AcceleratorPolicy", {"spec": {"host_selector": {"groups": ["all"]}, "num_vfs": 1}}),
    ("Driver", {"spec": {"device_type": "gpu"}}),
    ("RolloutPool", {"spec": {"host_selector": {"groups": ["all"]}, "max_unavailable": "0%"}}),
    ("RolloutPool", {"spec": {"host_selector": {"groups": ["all"]}, "max_unavailable": 0}}),
]


@pytest.mark.parametrize(("kind", "change"), WRONG)
def test_the_schema_refuses_what_the_reader_refuses(kind, change):
    document = {**as_json(yaml.safe_load(WHOLE[kind])), **change}
    document = {name: value for name, value in document.items() if value is not None}
    assert parse_documents(json.dumps(document), "a.yml").problems
    assert list(Draft202012Validator(combined_schema()).iter_errors(document))
    if "kind" not in change:
        assert list(Draft202012Validator(schemas()[kind]).iter_errors(document))


def test_the_schemas_explain_the_fields():
    schema = schemas()["AcceleratorPolicy"]
    spec = schema["$defs"]["PolicySpec"]["properties"]
    assert spec["priority"]["description"].startswith("The higher wins")
    assert schema["$defs"]["VfGroup"]["properties"]["vfs"]["examples"] == ["0-7"]
    assert schema["required"] == ["api_version", "kind", "metadata", "spec"]
    assert set(schemas()) == {"AcceleratorPolicy", "Driver", "RolloutPool"}


def test_a_driver_with_dkms_gets_its_role_unless_it_names_one():
    (located,) = parse_documents(WHOLE["Driver"], "a.yml").documents
    assert isinstance(located.document, Driver)
    assert located.document.spec.roles.install == located.document.spec.roles.uninstall == DKMS_ROLE
    text = WHOLE["Driver"] + "  roles: {install: a.b.c, uninstall: a.b.d}\n"
    (located,) = parse_documents(text, "a.yml").documents
    assert located.document.spec.roles.install == "a.b.c"


@pytest.mark.parametrize(
    ("field", "line"), [("kernel_module", "  kernel_module: edu\n"), ("version", '  version: "1.0"\n')]
)
def test_a_driver_with_dkms_says_what_it_builds(field, line):
    (problem,) = parse_documents(WHOLE["Driver"].replace(line, ""), "a.yml").problems
    assert (problem.line, problem.field) == (4, f"spec.{field}")
    assert problem.message == "is missing; a driver with dkms needs it"


def test_a_rule_of_a_driver_that_matches_nothing_in_particular_is_refused():
    text = WHOLE["Driver"].replace("match: [{", "match: [{}, {")
    (problem,) = parse_documents(text, "a.yml").problems
    assert str(problem) == "a.yml:6: spec.match.0: matches nothing; give vendor_id, product_id or class"


def test_a_share_of_the_hosts_is_a_percentage_that_moves_something():
    text = WHOLE["RolloutPool"].replace("10%", "0%")
    (problem,) = parse_documents(text, "a.yml").problems
    said = 'a.yml:6: spec.max_unavailable: "0%" is not a whole number from 1 on or a percentage from 1% to 100%; '
    assert str(problem) == said + 'write, e.g. max_unavailable: "10%"'


def test_a_document_cannot_be_changed():
    (located,) = parse_documents(WHOLE["RolloutPool"], "a.yml").documents
    with pytest.raises(ValidationError, match="frozen"):
        located.document.spec.approval = "manual"


def test_the_indexes_of_a_group_are_a_range():
    assert VfGroup(vfs="2-4", driver="vfio-pci").indexes == range(2, 5)
    assert VfGroup(vfs="3", driver="vfio-pci").indexes == range(3, 4)
