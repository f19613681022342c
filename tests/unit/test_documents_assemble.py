# SPDX-License-Identifier: Apache-2.0
"""What documents declare together, and where they contradict each other."""

from cyborg_reconciler.documents.assemble import assemble
from cyborg_reconciler.documents.parse import parse_documents

HEAD = "api_version: cyborg/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"


def read(file, kind, name, spec):
    """Return one document of *file*."""
    (located,) = parse_documents(HEAD.format(kind=kind, name=name) + f"  {spec}\n", file).documents
    return located


def policy(name, spec="kernel_args: {a: b}", file="a.yml"):
    """Return a policy for all hosts."""
    return read(file, "AcceleratorPolicy", name, f"host_selector: {{groups: [all]}}\n  {spec}")


def driver(name, spec="version: '1.0'", file="d.yml"):
    """Return a driver."""
    return read(file, "Driver", name, f"device_type: CRYPTO\n  {spec}")


SHIPPED = [driver("virtio-crypto", file="(shipped) virtio-crypto.yml")]


def said(documents, named=()):
    """Return what is wrong with *documents* together."""
    return [str(problem) for problem in assemble(documents, SHIPPED, named)[1]]


def names(located):
    """Return the names of documents."""
    return [item.document.metadata.name for item in located]


def test_documents_are_sorted_by_kind_and_name_and_a_users_drivers_come_first():
    pool = read("p.yml", "RolloutPool", "everything", "host_selector: {groups: [all]}")
    declared, problems = assemble([policy("b"), pool, driver("z"), policy("a"), driver("y")], SHIPPED)
    assert not problems
    assert names(declared.policies) == ["a", "b"]
    assert names(declared.drivers) == ["y", "z", "virtio-crypto"]
    assert names(declared.pools) == ["everything"]


def test_two_documents_of_one_kind_with_one_name_are_both_named():
    assert said([policy("a", file="x.yml"), driver("a"), policy("a", file="y.yml")]) == [
        "y.yml:3: metadata.name: the AcceleratorPolicy a stands here and in x.yml:3; rename one of them, or remove it"
    ]


def test_a_driver_that_there_is_not_is_named_with_the_one_that_was_meant():
    assert said([policy("a", "driver: {name: virtio-cripto}")]) == [
        "a.yml:6: spec.driver.name: there is no driver virtio-cripto; did you mean virtio-crypto?"
    ]
    assert said([policy("a", "driver: {name: xyz}"), driver("edu")]) == [
        "a.yml:6: spec.driver.name: there is no driver xyz; declare it with kind: Driver; there are edu, virtio-crypto"
    ]


def test_a_driver_whose_document_has_problems_of_its_own_is_not_reported_missing():
    assert not said([policy("a", "driver: {name: edu}")], named={"edu"})


def test_a_policy_cannot_want_another_version_than_the_only_source_has():
    edu = driver("edu", "version: '1.0'\n  kernel_module: edu\n  dkms: {path: edu, package: edu}")
    assert said([policy("a", "driver: {name: edu, version: '2.0'}"), edu]) == [
        'a.yml:6: spec.driver.version: edu is 1.0 in d.yml:3, not 2.0; write "1.0", or leave version out'
    ]
    assert not said([policy("a", "driver: {name: edu, version: '1.0'}"), edu])


def test_a_users_driver_takes_the_place_of_the_shipped_one_and_that_is_said():
    declared, problems = assemble([driver("virtio-crypto")], SHIPPED)
    assert not problems
    assert [located.file for located in declared.drivers] == ["d.yml"]
    (warning,) = declared.warnings
    assert str(warning) == (
        "d.yml:3: metadata.name: virtio-crypto takes the place of the driver that is shipped under this name; "
        "rename it unless that is meant"
    )


def test_a_policy_that_declares_nothing_is_warned_of():
    declared, _ = assemble([policy("a", "priority: 7")], SHIPPED)
    assert [warning.message for warning in declared.warnings] == ["declares nothing"]


def test_the_digest_is_of_contents_whatever_their_order_their_file_their_comments_and_defaults():
    first = [policy("a", "mode: enforce\n  kernel_args: {x: y, a: b}"), driver("d")]
    second = [driver("d", file="other.yml"), policy("a", "# why\n  kernel_args: {a: 'b', x: y}", file="other.yml")]
    digest = assemble(first, SHIPPED)[0].digest
    assert digest == assemble(second, SHIPPED)[0].digest
    assert len(digest) == 64


def test_the_digest_changes_with_any_value_and_with_the_shipped_drivers():
    digests = {
        assemble(documents, shipped)[0].digest
        for documents, shipped in (
            ([policy("a")], SHIPPED),
            ([policy("b")], SHIPPED),
            ([policy("a", "kernel_args: {a: c}")], SHIPPED),
            ([policy("a", "kernel_args: {a: [b]}")], SHIPPED),
            ([policy("a"), policy("b")], SHIPPED),
            ([policy("a")], []),
            ([policy("a")], [driver("virtio-crypto", "version: '2.0'")]),
        )
    }
    assert len(digests) == 7


def test_nothing_declared_has_no_digest():
    declared, problems = assemble([], SHIPPED)
    assert (declared.policies, declared.digest, problems) == ((), "", ())
    assert names(declared.drivers) == ["virtio-crypto"]
