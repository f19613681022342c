# SPDX-License-Identifier: Apache-2.0
"""Does the documentation say what is so? Links lead somewhere, examples can be used, the reference is not stale.

Reads the checkout; one test runs ansible-playbook to check the syntax of the playbooks.
"""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml

from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.cli.main import cli
from cyborg_reconciler.core.state import Reason
from cyborg_reconciler.documents.parse import parse_documents
from cyborg_reconciler.settings import Settings
from docs import generate
from docs.pages.errors import all_reasons, read_given_in_plans, read_given_on_hosts
from docs.pages.facts import parse_comments
from docs.pages.modules import markup
from docs.pages.settings import parse_attributes

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "collections/ansible_collections/openstack/cyborg"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *COLLECTION.glob("*.md"), *COLLECTION.glob("roles/*/*.md")]
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
PLAYBOOKS = [ROOT / "docs/how-to/use-the-modules-alone.md", COLLECTION / "README.md", *COLLECTION.glob("roles/*/*.md")]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    """Return the blocks of code in *language* on *page*."""
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def prose(page):
    """Return the text of *page* without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """Return the anchors that GitHub gives to the headings of *page*."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page):
    broken = []
    words = re.sub(r"`[^`\n]*`", "", prose(page))  # what looks like a link inside of code is none
    for link in re.findall(r"\]\(([^)\s]+)\)", words):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_document_that_is_shown_can_be_used(page):
    for text in blocks(page, "yaml"):
        if re.search(r"^kind: ", text, re.MULTILINE):
            parsed = parse_documents(text, page.name)
            assert parsed.problems == ()
            assert parsed.documents


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_that_is_shown_is_one_that_there_is(page):
    texts = [line for language in ("console", "sh") for text in blocks(page, language) for line in text.splitlines()]
    for words in (line.split() for line in texts if re.match(r"(\$ )?cyborg-reconciler [a-z]", line)):
        _, name, *rest = words[1:] if words[0] == "$" else words
        command = cli.commands[name]
        if isinstance(command, click.Group):
            name, *rest = rest
            command = command.commands[name]
        known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--debug"}
        pipe = next((index for index, word in enumerate(rest) if word in {"|", ">", "&&", ";"}), len(rest))
        assert {word for word in rest[:pipe] if re.match(r"--?[a-z]", word)} <= known, words


def test_the_playbooks_that_are_shown_are_playbooks(tmp_path):
    books = []
    for page in PLAYBOOKS:
        for text in blocks(page, "yaml"):
            if "hosts:" in text:
                books.append(tmp_path / f"{len(books)}.yml")
                books[-1].write_text(text)
    assert len(books) >= len(PLAYBOOKS)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "--syntax-check", "-i", "localhost,", *books],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


def test_every_reason_to_wait_has_its_section():
    page = ROOT / "docs/how-to/troubleshoot.md"
    sections = re.findall(r"^### (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(all_reasons())


def test_reasons_that_nobody_gives_yet_are_said_to_be_such():
    text = (ROOT / "docs/how-to/troubleshoot.md").read_text(encoding="utf-8")
    said = {name for name, words in re.findall(r"^### (\w+)\n\n(.+)", text, re.MULTILINE) if "Not given" in words}
    given = {str(Reason[name]) for name in read_given_in_plans()} | read_given_on_hosts()
    assert said == set(all_reasons()) - given


def test_the_collection_names_all_that_is_in_it():
    text = (COLLECTION / "README.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    assert set(re.findall(r"^\| `openstack\.cyborg\.(\w+)`", text, re.MULTILINE)) == modules
    for kind, folder in (("role", "roles"), ("playbook", "playbooks"), ("filter", "plugins/filter")):
        found = {path.stem for path in (COLLECTION / folder).iterdir() if path.name != "__pycache__"}
        assert set(re.findall(rf"^\| {kind} `openstack\.cyborg\.(\w+)`", text, re.MULTILINE)) == found


def test_the_tutorial_shows_a_policy_of_the_demo():
    demo = yaml.safe_load_all((ROOT / "cyborg_reconciler/cli/demo_policies.yml").read_text(encoding="utf-8"))
    first, *_ = blocks(ROOT / "docs/tutorial.md", "yaml")
    assert yaml.safe_load(first) in list(demo)


def test_the_driver_of_the_how_to_is_valid_beside_its_source(tmp_path):
    source = tmp_path / "edu-1.0"
    source.mkdir()
    (source / "dkms.conf").write_text('PACKAGE_NAME="edu"\nPACKAGE_VERSION="1.0"\n')
    for number, text in enumerate(blocks(ROOT / "docs/how-to/install-a-dkms-driver.md", "yaml")):
        (tmp_path / f"{number}.yml").write_text(text)
    declared = YamlDeclarations([tmp_path]).read()
    assert [policy.document.spec.driver.name for policy in declared.policies] == ["edu"]
    assert declared.warnings == ()


def test_the_settings_that_are_shown_are_settings():
    (text,) = blocks(ROOT / "docs/reference/settings.md", "toml")
    assert set(tomllib.loads(text)) <= {field.name for field in fields(Settings)}


def test_the_reference_is_what_the_source_says():
    assert generate.find_stale(generate.render_pages()) == [], "run make docs"


def test_a_page_that_differs_is_stale_and_so_is_a_schema_of_nothing():
    pages = generate.render_pages()
    cli_page, schema = generate.REFERENCE / "cli.md", generate.REFERENCE / "schemas/Driver.json"
    left = {path: text for path, text in pages.items() if path != schema}
    assert generate.find_stale(left | {cli_page: pages[cli_page] + "more"}) == [cli_page, schema]


def test_the_markup_of_ansible_becomes_that_of_markdown():
    text = "V(absent) of O(state=present), see M(openstack.cyborg.kernel_args) and P(openstack.cyborg.apply#role)"
    assert markup(text) == "`absent` of `state=present`, see [kernel_args](#kernel_args) and `openstack.cyborg.apply`"


def test_what_docstrings_and_comments_say_of_fields_is_found():
    docstring = (
        "One.\n\n    Attributes:\n        a, b: what both are,\n            on two lines.\n        c: another.\n"
    )
    assert parse_attributes(docstring) == dict.fromkeys("ab", "what both are, on two lines.") | {"c": "another."}
    assert parse_comments("class A:\n    d: int = 0  # how many\n    e: str\n") == {"d": "how many"}
