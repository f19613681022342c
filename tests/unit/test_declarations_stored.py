# SPDX-License-Identifier: Apache-2.0
"""What is declared beside a tree, and what becomes of it when a source is unreadable, wrong or empty."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.adapters.declarations.stored import RecordedDeclarations, StoredPolicies
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.declared import Declared, Located, is_of_tree
from cyborg_reconciler.documents.parse import Parsed, load_document
from cyborg_reconciler.documents.rest.policy import PolicyBody, json_path
from cyborg_reconciler.errors import DeclarationsInvalidError, JournalLockedError
from cyborg_reconciler.stores.policies import StoredPolicy
from tests.scenarios.story import facts_of, policy_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def stored(name, **spec):
    document = {
        "api_version": "cyborg/v1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": name},
        "spec": {"host_selector": {"groups": ["all"]}, "kernel_args": {"iommu": "pt"}, **spec},
    }
    return StoredPolicy(name, json.dumps(document), 1, NOON, NOON)


@dataclass
class Store:
    """The policies of the API, in memory; where *error* is set, they cannot be read."""

    kept: tuple[StoredPolicy, ...] = ()
    error: Exception | None = None
    reads: int = 0

    def policies(self):
        self.reads += 1
        if self.error:
            raise self.error
        return self.kept

    def stamp(self):
        return str(len(self.kept))


@dataclass
class Tree:
    """What a tree declared when it was last read, in memory."""

    kept: tuple[Located, ...] = ()
    may_prune: bool = True

    def documents(self):
        return self.kept

    def prunes(self):
        return self.may_prune

    def stamp(self):
        return str(len(self.kept))


def test_a_source_that_cannot_be_read_is_an_error_and_not_an_empty_one():
    locked = StoredPolicies(Store(error=JournalLockedError(wanted="the journal", found="it is locked")))
    with pytest.raises(JournalLockedError):
        YamlDeclarations([], [locked]).read()


def test_a_policy_that_this_release_does_not_take_is_named():
    source = StoredPolicies(Store((stored("good"), stored("bad", feature_of_tomorrow=1))))
    with pytest.raises(DeclarationsInvalidError, match=r"api: bad: spec\.feature_of_tomorrow: there is"):
        YamlDeclarations([], [source]).read()


def test_a_third_source_is_resolved_like_the_others():
    class Implied:
        def stamp(self):
            return "1"

        def read(self):
            return Parsed((policy_of({"name": "implied", "kernel_args": {"quiet": True}}, 1),))

    sources = [StoredPolicies(Store((stored("mine"),))), Implied()]
    declared = YamlDeclarations([], sources).read()
    assert [one.document.metadata.name for one in declared.policies] == ["implied", "mine"]
    assert RecordedDeclarations(Tree(), sources).read() == declared


def test_what_was_recorded_of_a_tree_is_declared_with_what_the_api_has_now():
    tree = Tree((policy_of({"name": "twin", "kernel_args": {"quiet": True}}, 1),))
    with pytest.raises(DeclarationsInvalidError, match=r"stands here and in twin\.yml"):
        RecordedDeclarations(tree, [StoredPolicies(Store((stored("twin"),)))]).read()
    declared = RecordedDeclarations(replace(tree, may_prune=False), [StoredPolicies(Store((stored("other"),)))]).read()
    assert len(declared.policies) == 2
    assert not declared.prunes


def test_what_was_recorded_is_parsed_once_for_each_state_of_it():
    tree = Tree((policy_of({"name": "one", "kernel_args": {"quiet": True}}, 1),))
    store = Store()
    recorded = RecordedDeclarations(tree, [StoredPolicies(store)])
    first = recorded.read()
    assert recorded.read() is first
    store.kept = (stored("wrong", feature_of_tomorrow=1),)
    store.reads = 0
    for _ in range(2):
        with pytest.raises(DeclarationsInvalidError, match="feature_of_tomorrow"):
            recorded.read()
    assert store.reads == 1
    store.kept = (stored("mine"), stored("other"))
    assert [one.document.metadata.name for one in recorded.read().policies] == ["mine", "one", "other"]


def test_while_a_source_that_should_declare_something_declares_nothing_nothing_is_undone():
    facts = facts_of({"owned": {"host kernel_args iommu": None}})
    declared = Declared(policies=(policy_of({"name": "other", "kernel_args": {"quiet": True}}, 1),), digest="d")
    for prunes, restored in ((True, {("host", "kernel_args", "iommu")}), (False, set())):
        compiled = compile_policies(replace(declared, prunes=prunes))
        desired = resolve(compiled, Host("compute-7"), lay_out(facts, compiled.catalogue))
        assert {path[:2] + path[-1:] for path in desired.restored} == restored


def test_places_tell_whose_a_document_is():
    assert [is_of_tree(place) for place in ("policies/a.yml", "api: a", "(shipped) a.yml")] == [True, False, False]


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("", "$"),
        ("spec.sriov.groups.0.vfs", "$.spec.sriov.groups[0].vfs"),
        ("spec.kernel_args.a.b", "$.spec.kernel_args.a.b"),
        ("spec.kernel_args.0", "$.spec.kernel_args.0"),
        ("spec.none.at.all", "$.spec.none.at.all"),
        ("spec.sriov.groups.7.vfs", "$.spec.sriov.groups[7].vfs"),
    ],
)
def test_places_in_a_document_are_json_paths(field, path):
    document = {"spec": {"sriov": {"groups": [{}]}, "kernel_args": {"a.b": 1, "0": 2}}}
    assert json_path(document, field) == path


def test_a_document_is_read_again_as_it_was_given():
    text = stored("mine", kernel_modules={"load": ["vfio-pci"], "options": {"vfio-pci": {"disable_vga": 1}}}).text
    given = PolicyBody().validate_json(text.encode())
    assert load_document("AcceleratorPolicy", given.text) == given.document
    for kind, wrong in (("Driver", text), ("Nothing", text)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            load_document(kind, wrong)
