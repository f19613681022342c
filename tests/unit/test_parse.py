# SPDX-License-Identifier: Apache-2.0
"""What is said of a wrong text: file, line, field, what is wrong, and what would be right."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cyborg_reconciler.documents.nodes import LOADER, MAX_CHARACTERS, parse_trees
from cyborg_reconciler.documents.parse import parse_documents

POLICY = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: qat-sriov}
spec:
  host_selector: {groups: [crypto]}
  device_selector: {vendor_id: "8086", product_id: ["4940", "4942"], class: "0b40"}
  kernel_args: {intel_iommu: on, console: [tty0, ttyS0], nosmt: true}
  kernel_modules: {load: [intel_qat], blacklist: [nouveau], options: {vfio-pci: {disable_vga: 1}}}
  sriov:
    num_vfs: 16
    vf_driver: vfio-pci
    groups:
      - {vfs: "0-7", driver: vfio-pci}
"""
HEAD = "api_version: cyborg/v1\nkind: AcceleratorPolicy\nmetadata: {name: a}\nspec:\n  host_selector: {groups: [all]}\n"
#: By field: what is wrong, and what is said of it.
CASES = {
    field: [(case["wrong"], case["said"]) for case in cases]
    for field, cases in yaml.safe_load(Path(__file__).with_name("wrong_fields.yml").read_text()).items()
}


def wrong(text):
    """Return what is wrong with *text*, as an operator sees it."""
    parsed = parse_documents(text, "a.yml")
    assert not parsed.documents
    return [str(problem) for problem in parsed.problems]


def test_a_policy_is_read_with_the_line_of_every_field():
    (located,) = parse_documents(POLICY, "policies/qat.yml").documents
    spec = located.document.spec
    assert located.file == "policies/qat.yml"
    assert spec.device_selector.product_id == ("4940", "4942")
    assert spec.device_selector.class_id == "0b40"
    assert spec.kernel_args == {"intel_iommu": "on", "console": ("tty0", "ttyS0"), "nosmt": True}
    assert spec.kernel_modules.options == {"vfio-pci": {"disable_vga": 1}}
    assert [located.line(path) for path in ("kind", "spec.sriov", "spec.sriov.num_vfs")] == [2, 9, 10]
    assert located.line("spec.sriov.groups.0.driver") == 13
    assert located.line("spec.kernel_args.console.1") == 7
    assert located.line("spec.binding.driver") == 4


def test_one_text_holds_several_documents_and_empty_ones_do_not_count():
    text = f"# nothing yet\n---\n{POLICY}---\n---\n{POLICY.replace('qat-sriov', 'second')}..."
    first, second = parse_documents(text, "a.yml").documents
    assert (first.document.metadata.name, second.document.metadata.name) == ("qat-sriov", "second")
    assert (first.line("kind"), second.line("kind")) == (4, 19)


@pytest.mark.parametrize("text", ["", "---\n", "# only a comment\n", "\ufeff", "null\n", "---\n~\n---\n"])
def test_a_text_without_documents_is_no_mistake(text):
    parsed = parse_documents(text, "a.yml")
    assert (parsed.documents, parsed.problems) == ((), ())


@pytest.mark.parametrize(("spec", "said"), CASES["spec"])
def test_a_wrong_field_is_named_with_its_line_and_what_would_be_right(spec, said):
    assert wrong(f"{HEAD}  {spec}\n") == [f"a.yml:6: spec.{said}"]


@pytest.mark.parametrize(("groups", "said"), CASES["sriov"])
def test_groups_of_vfs_lie_within_the_vfs_and_give_each_one_driver(groups, said):
    text = f'{HEAD}  device_selector: {{vendor_id: "8086"}}\n  sriov:\n    num_vfs: 4\n    {groups}\n'
    assert wrong(text) == [f"a.yml:9: spec.sriov.{said}"]


def test_groups_may_overlap_when_they_agree_and_stand_alone_when_another_policy_counts():
    spec = 'device_selector: {vendor_id: "8086"}\n  sriov: {groups: [{vfs: "0-9", driver: a}, {vfs: "9", driver: a}]}'
    assert parse_documents(f"{HEAD}  {spec}\n", "a.yml").documents


def test_binding_excludes_vfs_of_the_same_device():
    text = f'{HEAD}  device_selector: {{vendor_id: "8086"}}\n  sriov: {{num_vfs: 1}}\n  binding: {{driver: a}}\n'
    said = "excludes num_vfs above 0 on the same device; keep binding or sriov; for VFs there is vf_driver"
    assert wrong(text) == [f"a.yml:8: spec.binding: {said}"]


def test_a_name_that_a_terminal_would_obey_is_not_repeated_to_it():
    said = wrong(f'{HEAD}  kernel_args: {{"\\x1f": [null]}}\n')
    assert [line for line in said if "write, e.g. \\x1f: " in line]
    assert not [line for line in said if "\x1f" in line]


def test_binding_is_not_for_a_device_that_is_selected_by_what_it_takes_away():
    text = f"{HEAD}  device_selector: {{net_names: [ens7]}}\n  binding: {{driver: vfio-pci}}\n"
    remedy = "select by addresses, or by vendor_id and product_id"
    said = f"takes the net device away by whose name net_names selects; {remedy}"
    assert wrong(text) == [f"a.yml:7: spec.binding: {said}"]


@pytest.mark.parametrize(("selector", "said"), CASES["host_selector"])
def test_a_host_selector_says_which_hosts_in_patterns_that_mean_something(selector, said):
    text = HEAD.replace("{groups: [all]}", selector) + "  kernel_args: {a: b}\n"
    assert wrong(text) == [f"a.yml:5: spec.{said}"]


def test_a_policy_without_host_selector_is_wrong():
    text = HEAD.partition("  host_selector")[0] + "  kernel_args: {a: b}\n"
    assert wrong(text) == ["a.yml:4: spec.host_selector: is missing; add, e.g. host_selector: {groups: [crypto]}"]


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_lines():
    text = f"{HEAD}  mode: on\n  priority: x\n---\nkind: Drive\n---\n- a\n"
    text += "---\napi_version: cyborg/v2\nkind: Driver\n---\nx: [a\n"
    assert wrong(text) == [
        'a.yml:6: spec.mode: "on" is not one of enforce, warn, disabled; write, e.g. mode: enforce',
        'a.yml:7: spec.priority: "x" is not a whole number from 0 to 1000; write, e.g. priority: 50',
        "a.yml:9: api_version: is missing; add api_version: cyborg/v1",
        'a.yml:9: kind: "Drive" is not known; did you mean Driver?',
        "a.yml:11: a list is not a document; begin it with api_version:, kind:, metadata: and spec:",
        'a.yml:13: api_version: "cyborg/v2" is not known; this release reads cyborg/v1',
        "a.yml:16: a list [ or a block { is not closed; add the missing , ] or }",
    ]


def test_a_file_with_very_many_problems_says_the_first_hundred_and_that_there_are_more():
    said = wrong(HEAD + "".join(f"  field_{number}: 1\n" for number in range(5_000)))
    assert len(said) == 101
    assert said[-1] == "a.yml:106: there are more problems from here on; mend those above first"


YAML_MISTAKES = [
    ("a: b: c", 1, "a colon stands where no field can begin"),
    ("a:\n\t- b", 2, "text without quotes begins with a tab or with one of % @ `"),
    ("a:\n  b: 1\n c: 2", 3, "the indentation does not fit the lines above"),
    ('x: 1\na: "b\nc: d\n', 2, "text in quotes is not closed"),
    ("a:\n  [b,\n  c\nd: e", 4, "a list [ or a block { is not closed (the part that begins on line 2)"),
    ('a: "\\d"', 1, "a backslash in double quotes begins no escape that YAML knows"),
    ("a\nb: c", 2, "a colon stands where no field can begin"),
    ("a: !!python/object/apply:os.system [id]", 1, "tags (!!python/object/apply:os.system) are not read"),
    ("a: !vault |\n  x", 1, "tags (!vault) are not read"),
    ("a: &x {b: c}\nd:\n  <<: *x", 3, "merge keys (<<) are not read"),
    ("a: *x", 1, "*x has no &x before it"),
    ("a: &x [*x]", 1, "*x has no &x before it"),
    ("a: 1\nb: 2\na: 3", 3, "stands there twice, on line 1 and on line 3"),
    ("1: a", 1, "1 without quotes is no text, and a name is"),
    ("? [a]\n: b", 1, "a field's name is a list or a block"),
    ("a: \x00", 1, "there is a character that is no text (U+0000)"),
    ("a: 1\nb: \ud800", 2, "there is a character that is no text (U+D800)"),
    ("[" * 40, 1, "it is nested more than 32 deep"),
    ("a" * (MAX_CHARACTERS + 1), 0, f"it has {MAX_CHARACTERS + 1} characters, and {MAX_CHARACTERS} are read"),
]


@pytest.mark.parametrize(("text", "line", "message"), YAML_MISTAKES)
def test_what_is_no_yaml_that_we_read_is_said_in_words(text, line, message):
    found = [problem for problem in parse_documents(text, "a.yml").problems if problem.message.startswith(message)]
    assert [(problem.file, problem.line, bool(problem.remedy)) for problem in found] == [("a.yml", line, True)]


def test_aliases_cannot_blow_a_text_up():
    letters = "abcdefghij"
    levels = [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise(letters)]
    _, (mistake,) = parse_trees("\n".join([f"a: &a [{', '.join('x' * 9)}]", *levels]))
    assert mistake.message == "aliases add more than 10000 values"


def test_an_alias_brings_its_value_and_the_lines_of_both_places():
    (tree,), mistakes = parse_trees("a: &x {b: 1}\nc: *x\n")
    assert not mistakes
    assert tree.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert (tree.lines["c"], tree.lines["c.b"]) == (2, 1)


def test_yaml_is_read_by_the_core_schema_of_its_version_1_2():
    (tree,), _ = parse_trees("[on, no, 0b10, 2024-01-01, 1_000, 12:30, 0o17, 0x1f, -1, 1e3, .5, .inf, ~, True, '1']")
    assert tree.value == (
        "on", "no", "0b10", "2024-01-01", "1_000", "12:30", 15, 31, -1, 1000.0, 0.5, float("inf"), None, True, "1",
    )  # fmt: skip


@pytest.mark.parametrize("text", [POLICY, *(text for text, _, _ in YAML_MISTAKES)])
def test_both_parsers_of_pyyaml_say_the_same(text):
    assert LOADER is not yaml.SafeLoader, "this build of PyYAML lacks libyaml: there is nothing to compare"
    trees, mistakes = parse_trees(text)
    others, other_mistakes = parse_trees(text, loader=yaml.SafeLoader)
    assert trees == others
    assert bool(mistakes) == bool(other_mistakes)


def test_a_value_is_shown_without_what_a_terminal_would_obey():
    (said,) = wrong(f'{HEAD}  mode: "\\e[31m{"x" * 200}"\n')
    assert said.isprintable()
    assert len(said) < 200


def test_nothing_of_the_libraries_words_comes_through():
    texts = [f"{HEAD}  {spec}\n" for spec, _ in CASES["spec"]] + [text for text, _, _ in YAML_MISTAKES]
    said = "\n".join(line for text in texts for line in wrong(text)).lower()
    for word in ("pydantic", "http", "input should", "extra inputs", "string_type", "scanner", "none"):
        assert word not in said
