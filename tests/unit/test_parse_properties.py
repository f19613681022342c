# SPDX-License-Identifier: Apache-2.0
"""Laws of reading: whatever somebody wrote, it ends in documents or in problems that can be shown."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyborg_reconciler.documents.parse import KINDS, parse_documents
from cyborg_reconciler.documents.wording import flow, names_of, printable

POLICY = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: a, description: "x"}
spec:
  priority: 50
  suspend: false
  host_selector: {groups: [all], labels: {pool: crypto}}
  device_selector: {vendor_id: "8086", product_id: ["4940"], class: "0b40"}
  kernel_args: {intel_iommu: on, nosmt: true, console: [tty0, ttyS0]}
  kernel_modules: {load: [intel_qat], options: {vfio-pci: {disable_vga: 1}}}
  sriov: &s
    num_vfs: 16
    groups: [{vfs: "0-7", driver: vfio-pci}]
"""
MANY = settings(max_examples=100)
FEW = settings(max_examples=25)
PIECES = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "- ",
    "\n",
    "\n  ",
    '"',
    "'",
    "&a ",
    "*a",
    "!t ",
    "<<",
    "? ",
    "|",
    ">",
    "#",
    "~",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["on", "0-7", "8086", "all"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def judge(text):
    """Assert what holds for every text, and return what came of it."""
    parsed = parse_documents(text, "a.yml")
    assert not (parsed.documents and parsed.problems)
    for problem in parsed.problems:
        assert problem.file == "a.yml"
        assert 0 <= problem.line <= text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 2
        assert problem.message
        assert problem.remedy
        assert all(sign.isprintable() for sign in str(problem))
        assert "pydantic" in text or "pydantic" not in str(problem)
    return parsed


@MANY
@given(st.text())
def test_no_text_makes_the_reader_fail(text):
    judge(text)


@MANY
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join))
def test_nothing_that_looks_like_yaml_makes_the_reader_fail(text):
    judge(text)


@MANY
@given(st.integers(0, len(POLICY)), st.integers(0, 40), st.sampled_from(PIECES) | st.text(max_size=6))
def test_a_policy_that_was_damaged_is_read_whole_or_not_at_all(start, length, piece):
    judge(POLICY[:start] + piece + POLICY[start + length :])


def _places():
    """Return every field of every kind, with a document that is complete without it."""
    for kind, model in KINDS.items():
        spec = model.model_fields["spec"].annotation
        least = {"host_selector": {"groups": ["all"]}} if "host_selector" in names_of(spec) else {"device_type": "GPU"}
        for name in names_of(spec):
            yield pytest.param(kind, least, name, id=f"{kind}.{name}")


@pytest.mark.parametrize(("kind", "least", "name"), list(_places()))
@FEW
@given(value=VALUES)
def test_no_value_of_a_field_makes_the_reader_fail(kind, least, name, value):
    document = {"api_version": "cyborg/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {**least, name: value}}
    judge(json.dumps(document, indent=1))


@MANY
@given(st.text())
def test_text_that_is_written_as_yaml_on_one_line_is_read_back(text):
    spec = {"host_selector": {"groups": ["all"]}}
    document = {"api_version": "cyborg/v1", "kind": "AcceleratorPolicy", "spec": spec}
    parsed = judge(flow({**document, "metadata": {"name": "a", "description": text}}))
    if parsed.problems:
        assert any(not sign.isprintable() for sign in text)
    else:
        assert parsed.documents[0].document.metadata.description == text


@MANY
@given(st.text())
def test_what_is_shown_is_printable_and_short(text):
    assert printable(text).isprintable()
    assert len(printable(text)) <= 61
