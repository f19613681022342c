# SPDX-License-Identifier: Apache-2.0
"""Do the gates that are our own see what they are there for? Pure: the rules are given texts."""

from pathlib import Path

import pytest

from tools import house, pip_bootstrap

CONTROLLER = Path("cyborg_reconciler/core/diff.py")
MODULE = Path("collections/ansible_collections/openstack/cyborg/plugins/modules/sriov_vfs.py")
READER = Path("collections/ansible_collections/openstack/cyborg/plugins/module_utils/tree.py")
HEAD = {
    CONTROLLER: "# SPDX-License-Identifier: Apache-2.0\n",
    MODULE: "# GNU General Public License v3.0+ (SPDX-License-Identifier: GPL-3.0-or-later)\n",
    READER: "# SPDX-License-Identifier: BSD-2-Clause\n",
}


def breaches(path, body):
    return [what for _, what in house.find_breaches(path, HEAD[path] + body)]


def test_code_that_keeps_the_rules_is_left_alone():
    assert breaches(CONTROLLER, "def diff():\n    return ()\n") == []


@pytest.mark.parametrize("path", HEAD)
def test_every_file_names_the_licence_of_the_tree_that_it_is_in(path):
    missing = [what for _, what in house.find_breaches(path, "import os\n")]
    assert len(missing) == 1
    assert missing[0].startswith("the first lines must hold")
    assert breaches(path, "import os\n") == []


def test_a_long_function_needs_a_reason():
    body = "    x = 1\n" * 50
    assert breaches(CONTROLLER, f"def diff():\n{body}") == ["diff has 51 lines, and 50 are the limit"]
    assert breaches(CONTROLLER, f"def diff():  # long: a table reads better whole\n{body}") == []
    assert breaches(CONTROLLER, f"def diff():  # long:\n{body}") != []


def test_documentation_does_not_make_a_function_or_a_module_long():
    lines = "line\n" * 500
    assert breaches(CONTROLLER, f'def diff():\n    """What differs.\n\n{lines}"""\n    return ()\n')[1:] == []
    assert breaches(MODULE, f'DOCUMENTATION = r"""\n{lines}"""\nimport os\n') == []


def test_a_long_file_needs_a_reason_near_its_top():
    body = "x = 1\n" * 400
    assert breaches(CONTROLLER, body) == ["the file has 401 lines, and 400 are the limit"]
    assert breaches(CONTROLLER, f"# long: one table of all ids\n{body}") == []


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # no" + "qa: S101",
        "x = 1  # no" + "qa: S101, S102 --",
        "x = 1  # type: " + "ignore[attr-defined]",
        "x = 1  # no" + "qa: S101 because",
    ],
)
def test_a_suppression_without_a_reason_is_seen(line):
    assert len(breaches(CONTROLLER, line + "\n")) == 1
    assert breaches(CONTROLLER, line + " -- the shell is wanted here\n") == []


@pytest.mark.parametrize(
    "line", ["monkeypatch." + "setattr(a, 'b', c)", "x = Magic" + "Mock()", "raise NotImplemented" + "Error"]
)
def test_patching_and_leaving_things_open_are_seen(line):
    assert len(breaches(CONTROLLER, line + "\n")) == 1


def test_what_runs_on_hosts_imports_what_is_there():
    assert breaches(READER, "import requests\n") == [
        "requests may be missing on a host: only the standard library is there"
    ]
    assert breaches(READER, "import pyudev\n") != []
    assert breaches(READER, "try:\n    import pyudev\nexcept ImportError:\n    pyudev = None\n") == []
    assert breaches(READER, "from ansible_collections.openstack.cyborg.plugins.module_utils import tree\n") == []
    assert breaches(MODULE, "from ansible.module_utils.basic import AnsibleModule\n") == []
    assert breaches(MODULE, "from ansible.plugins import loader\n") != []


def test_the_collection_never_imports_the_controller():
    action = Path("collections/ansible_collections/openstack/cyborg/plugins/action/apply.py")
    text = HEAD[MODULE] + "def run():\n    import cyborg_reconciler.core\n"
    assert [what for _, what in house.find_breaches(action, text)] == ["the collection does not import the controller"]


@pytest.mark.parametrize("use", ["name.removeprefix('a')", "path.is_relative_to('/')"])
def test_what_the_oldest_python_on_hosts_lacks_is_seen(use):
    assert len(breaches(MODULE, f"x = {use}\n")) == 1
    assert breaches(CONTROLLER, f"x = {use}\n") == []


def test_the_pip_that_ansible_test_asks_for_is_found(tmp_path):
    pip_bootstrap.write_bootstrap(tmp_path)
    (script,) = (tmp_path / ".ansible/test/cache").iterdir()
    version = script.stem.removeprefix("get_pip_").replace("_", ".")
    assert f"pip=={version}" in script.read_text()


def test_a_bootstrap_that_is_there_is_kept(tmp_path):
    pip_bootstrap.write_bootstrap(tmp_path)
    (script,) = (tmp_path / ".ansible/test/cache").iterdir()
    script.write_text("mine")
    pip_bootstrap.write_bootstrap(tmp_path)
    assert script.read_text() == "mine"


def test_an_ansible_test_that_pins_no_pip_gets_no_bootstrap():
    assert pip_bootstrap.parse_pip_pin("def get_venv_packages():\n    return {}\n") is None
