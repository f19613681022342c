# SPDX-License-Identifier: Apache-2.0
"""Declarations on a disk: files, trees, links, what cannot be read, and what changed."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.documents.nodes import MAX_CHARACTERS
from cyborg_reconciler.documents.parse import parse_documents
from cyborg_reconciler.errors import DeclarationsInvalidError

HOW_TO = Path(__file__).parents[2] / "docs/how-to/write-a-policy.md"
POLICY = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {{name: {name}}}
spec:
  host_selector: {{groups: [all]}}
  kernel_args: {{iommu: pt}}
"""
EDU = """\
api_version: cyborg/v1
kind: Driver
metadata: {name: edu}
spec:
  device_type: PROCESSING
  kernel_module: edu
  version: "1.0"
  dkms: {path: edu-src, package: edu}
"""


@pytest.fixture
def tree(tmp_path):
    """A folder of policies."""
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


def write(path, text=""):
    """Write *text*, or a policy that is called like the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or POLICY.format(name=path.stem.lower()))
    return path


def declared_in(*paths):
    """Return the names of the policies below *paths*."""
    return [located.document.metadata.name for located in YamlDeclarations(paths).read().policies]


def said(*paths):
    """Return what is wrong below *paths*, relative to the folder of the first one."""
    with pytest.raises(DeclarationsInvalidError) as caught:
        YamlDeclarations(paths).read()
    return str(caught.value).replace(f"{paths[0].parent}/", "").splitlines()


def test_a_tree_is_read_with_all_its_folders_and_without_what_is_hidden(tree):
    for name in ("b.yml", "a.yaml", "deep/er/c.yml", ".hidden.yml", ".git/d.yml", "notes.txt", "e.yml.bak"):
        write(tree / name)
    write(tree / "f.yml", POLICY.format(name="f1") + "---\n" + POLICY.format(name="f2"))
    assert declared_in(tree) == ["a", "b", "c", "f1", "f2"]


def test_a_file_is_read_whatever_it_is_called_and_named_as_it_was_asked_for(tree, monkeypatch):
    write(tree / ".odd", POLICY.format(name="odd"))
    monkeypatch.chdir(tree.parent)
    (located,) = YamlDeclarations([Path("policies/.odd")]).read().policies
    assert (located.file, located.line("spec.kernel_args.iommu")) == ("policies/.odd", 6)


def test_several_paths_are_read_and_each_file_once(tree):
    write(tree / "a.yml")
    other = write(tree.parent / "more/b.yml")
    assert declared_in(tree, other, other.parent, tree / "a.yml") == ["a", "b"]


def test_the_digest_does_not_know_of_files(tree):
    write(tree / "x/all.yml", "# both\n" + POLICY.format(name="b") + "---\n" + POLICY.format(name="a"))
    write(tree / "y/a.yml")
    write(tree / "y/deep/b.yml")
    assert YamlDeclarations([tree / "x"]).read().digest == YamlDeclarations([tree / "y"]).read().digest


def test_all_that_is_wrong_in_a_tree_is_said_at_once(tree):
    write(tree / "a.yml", POLICY.format(name="A b"))
    write(tree / "b.yml", POLICY.format(name="same"))
    write(tree / "c.yml", POLICY.format(name="same").replace("kernel_args: {iommu: pt}", "driver: {name: virtio}"))
    write(tree / "d.yml", "a: [")
    twins = f"the AcceleratorPolicy same stands here and in {tree}/b.yml:3".replace(f"{tree.parent}/", "")
    assert said(tree) == [
        'policies/a.yml:3: metadata.name: "A b" is not a name of lower-case letters, digits, - and .; write a-b',
        f"policies/c.yml:3: metadata.name: {twins}; rename one of them, or remove it",
        "policies/c.yml:6: spec.driver.name: there is no driver virtio; did you mean virtio-crypto?",
        "policies/d.yml:1: a value is missing inside [ ] or { }; add the value, or the closing ] or }",
    ]


def test_a_tree_or_a_file_without_documents_declares_nothing_and_says_so(tree):
    declared = YamlDeclarations([tree]).read()
    assert (declared.policies, declared.digest) == ((), "")
    assert [str(warning) for warning in declared.warnings] == [f"{tree}: holds no *.yml or *.yaml file; check the path"]
    write(tree / "a.yml", "# later\n")
    declared = YamlDeclarations([tree]).read()
    assert (declared.policies, declared.digest) == ((), "")
    assert [warning.message for warning in declared.warnings] == ["declares nothing"]
    assert [located.document.metadata.name for located in declared.drivers] == ["dummy", "generic-pci", "virtio-crypto"]


def test_without_any_path_there_are_the_shipped_drivers_alone():
    declared = YamlDeclarations([]).read()
    assert (declared.policies, declared.digest, declared.warnings) == ((), "", ())
    assert len(declared.drivers) == len(read_catalogue())


def test_a_path_that_is_not_there_is_an_error_and_never_an_empty_declaration(tree):
    assert said(tree / "gone") == ["gone: is not there; check the path"]


def test_a_folder_and_a_file_that_may_not_be_read_are_errors():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder / "a.yml").chmod(0)
        write(folder / "closed/b.yml")
        (folder / "closed").chmod(0)
        remedy = "may not be read by this user; allow it, or run as a user who may"
        refused = [f"{folder.name}/a.yml: {remedy}", f"{folder.name}/closed: {remedy}"]
        assert as_anybody(lambda: said(folder)) == refused
        (folder / "closed").chmod(0o755)


def as_anybody(ask):
    """Return what *ask* says to somebody who is not root: a child process asks where root runs the tests."""
    if os.geteuid() != 0:
        return ask()
    read_catalogue()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            os.write(writer, "\n".join(ask()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read().splitlines()


def test_links_are_followed_inside_the_tree_and_read_once(tree):
    write(tree / ".versions/1/a.yml", POLICY.format(name="a"))
    (tree / ".now").symlink_to(".versions/1")
    (tree / "a.yml").symlink_to(".now/a.yml")
    (tree / "again.yml").symlink_to(tree / "a.yml")
    (tree / "loop").symlink_to(".")
    assert declared_in(tree) == ["a"]


def test_links_out_of_the_tree_are_not_followed(tree):
    secret = write(tree.parent / "outside/b.yml")
    write(tree / "a.yml")
    (tree / "folder").symlink_to(secret.parent)
    declared = YamlDeclarations([tree]).read()
    assert [located.document.metadata.name for located in declared.policies] == ["a"]
    assert "is a link out of the tree" in declared.warnings[0].message
    (tree / "b.yml").symlink_to(secret)
    (tree / "c.yml").symlink_to("nowhere")
    first, second = said(tree)
    assert first.startswith("policies/b.yml: is a link out of the tree, to ")
    assert second == "policies/c.yml: is not there; check the path"


def test_the_tree_itself_may_be_a_link(tree):
    write(tree / "a.yml")
    (tree.parent / "current").symlink_to(tree)
    assert declared_in(tree.parent / "current") == ["a"]


def test_what_is_no_file_too_large_or_no_text_is_refused(tree):
    os.mkfifo(tree / "a.yml")
    write(tree / "b.yml", "#" * (MAX_CHARACTERS + 1))
    (tree / "c.yml").write_bytes(b"# fine\n# \xff\n")
    assert said(tree) == [
        "policies/a.yml: is no ordinary file; remove it, or rename it",
        f"policies/b.yml: is larger than {MAX_CHARACTERS} bytes; divide it into files",
        "policies/c.yml:2: is not UTF-8; save it as UTF-8",
    ]


def test_a_name_that_no_terminal_can_show_is_escaped(tree):
    write(tree / "\x1b[31m.yml", "a: 1")
    assert all(line.isprintable() for line in said(tree))


def test_the_stamp_changes_with_every_change_and_with_nothing_else(tree):
    source = YamlDeclarations([tree])
    policy = write(tree / "a.yml")
    stamps = [source.stamp()]
    assert source.stamp() == stamps[0]
    write(tree / "notes.txt")
    assert source.stamp() == stamps[0]
    before = policy.stat()
    write(policy, POLICY.format(name="z"))
    os.utime(policy, ns=(before.st_atime_ns, before.st_mtime_ns))
    stamps.append(source.stamp())
    write(tree / "new/b.yml")
    stamps.append(source.stamp())
    policy.rename(tree / "c.yml")
    stamps.append(source.stamp())
    (tree / "c.yml").unlink()
    stamps.append(source.stamp())
    (tree / "new/b.yml").unlink()
    stamps.append(source.stamp())
    assert len(set(stamps)) == len(stamps)


def test_the_stamp_of_a_path_that_goes_and_comes_back_is_not_an_error(tree):
    source = YamlDeclarations([tree / "a.yml"])
    gone = source.stamp()
    write(tree / "a.yml")
    assert source.stamp() != gone


def test_the_source_of_a_driver_is_looked_for_beside_its_document(tree, monkeypatch):
    write(tree / "drivers/edu.yml", EDU)
    monkeypatch.chdir(tree.parent)
    (problem,) = said(Path("policies"))
    assert problem.startswith(
        f"policies/drivers/edu.yml:8: spec.dkms.path: there is no dkms.conf in {tree}/drivers/edu"
    )
    conf = write(tree / "drivers/edu-src/dkms.conf", 'PACKAGE_NAME="edu"\nPACKAGE_VERSION=1.0 # first\n')
    write(conf.with_name("ci.yml"), "this: is not ours")
    edu = YamlDeclarations([Path("policies")]).read().drivers[0].document
    assert edu.spec.dkms.path == f"{tree}/drivers/edu-src"
    assert edu.spec.roles.install == "openstack.cyborg.driver_dkms"


def test_a_driver_and_its_source_must_agree(tree):
    write(tree / "edu.yml", EDU)
    conf = write(tree / "edu-src/dkms.conf", "PACKAGE_NAME='edux'\nPACKAGE_VERSION=\"1.1\"\n")
    where = "policies/edu-src/dkms.conf"
    assert said(tree) == [
        f'policies/edu.yml:7: spec.version: is 1.0, but {where} says 1.1; write "1.1"',
        f'policies/edu.yml:8: spec.dkms.package: is edu, but {where} says edux; write "edux"',
    ]
    conf.write_text("PACKAGE_NAME=$(basename $PWD)\nPACKAGE_VERSION=`cat VERSION`\n")
    assert YamlDeclarations([tree]).read().drivers


def test_where_the_source_of_a_driver_lies_does_not_change_the_digest(tree):
    for folder in ("x", "y/z"):
        write(tree / folder / "edu.yml", EDU)
        write(tree / folder / "edu-src/dkms.conf", "PACKAGE_NAME=edu\n")
    assert YamlDeclarations([tree / "x"]).read().digest == YamlDeclarations([tree / "y"]).read().digest


def test_the_catalogue_holds_the_shipped_drivers():
    shipped = {located.document.metadata.name: located.document.spec for located in read_catalogue()}
    assert set(shipped) == {"dummy", "generic-pci", "virtio-crypto"}
    assert (shipped["generic-pci"].match, shipped["generic-pci"].roles) == ((), None)
    crypto = shipped["virtio-crypto"]
    assert (crypto.match[0].vendor_id, crypto.match[0].product_id) == ("1af4", ("1054",))
    assert (crypto.kernel_module, crypto.roles.install) == ("virtio_crypto", "openstack.cyborg.driver_module")


def blocks(language):
    """Return the fenced blocks of the how-to in *language*."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", HOW_TO.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: re.search(r"name: ([\w-]+)", block)[1])
def test_the_examples_of_the_how_to_are_valid(block):
    assert not parse_documents(block, "how-to.yml").problems


def test_the_examples_of_the_how_to_can_be_used_together(tree):
    for number, block in enumerate(blocks("yaml")):
        write(tree / f"{number}.yml", block)
    write(tree / "edu-1.0/dkms.conf", "PACKAGE_NAME=edu\nPACKAGE_VERSION=1.0\n")
    declared = YamlDeclarations([tree]).read()
    assert not declared.warnings
    assert len(declared.policies) + len(declared.pools) == len(blocks("yaml")) - 1


def test_what_the_how_to_says_of_a_wrong_policy_is_what_is_said(tree, monkeypatch):
    (wrong,) = [block for block in blocks("text") if "kind: AcceleratorPolicy" in block]
    (report,) = [block for block in blocks("text") if block.startswith("policies/")]
    write(tree / "qat.yml", wrong)
    monkeypatch.chdir(tree.parent)
    assert "\n".join(said(Path("policies"))) == report.strip()
