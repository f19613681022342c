# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As Ansible sends it: source in an archive, run by a Python that says what it compiles."""

import os
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import compiled

PACKAGE = "ansible_collections.openstack.cyborg.plugins.module_utils"
PROGRAM = """
import sys
archive, home = sys.argv[1:]
sys.path.insert(0, archive)
from %(package)s.compiled import remembered
said = []
sys.addaudithook(lambda event, about: said.append(about[1]) if event == "compile" else None)
with remembered("reader", home):
    from %(package)s import answer
    from %(package)s.answer import later
    print(answer.VALUE, later())
print(sum(name.endswith((".answer>", ".late>")) for name in map(str, said)), "compiled")
""" % {"package": PACKAGE}
ANSWER = "VALUE = %d\n\n\ndef later():\n    from %s.late import VALUE\n\n    return VALUE\n"


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def read(tmp_path, home):
    """Return a function that sends an archive whose module says *value*, runs it, and returns what it said."""

    def _read(value=1, **environment):
        archive = tmp_path / "sent.zip"
        folder = PACKAGE.replace(".", "/")
        with zipfile.ZipFile(str(archive), "w") as sent:
            parts = folder.split("/")
            for depth in range(1, len(parts) + 1):
                sent.writestr("/".join(parts[:depth]) + "/__init__.py", "")
            sent.write(compiled.__file__, folder + "/compiled.py")
            sent.writestr(folder + "/answer.py", ANSWER % (value, PACKAGE))
            sent.writestr(folder + "/late.py", "VALUE = 'late'\n")
        command = [sys.executable, "-I" if not environment else "-s", "-c", PROGRAM, str(archive), str(home)]
        return subprocess.check_output(command, env=environment, text=True).splitlines()

    return _read


@pytest.fixture
def kept(home):
    return home / compiled.FOLDER / "reader"


def test_what_was_compiled_once_is_not_compiled_again(read, kept):
    assert read() == ["1 late", "2 compiled"]
    assert [path.name for path in kept.parent.iterdir()] == ["reader"]
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert read() == ["1 late", "0 compiled"]


def test_other_source_is_compiled_and_replaces_what_was_kept(read, kept):
    read(1)
    before = kept.read_bytes()
    assert read(2) == ["2 late", "1 compiled"]
    assert read(2) == ["2 late", "0 compiled"]
    assert kept.read_bytes().count(b".answer>") == before.count(b".answer>") > 0
    assert b"sent.zip" not in kept.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 5000])
def test_what_is_not_whole_is_not_run(read, kept, damage):
    read()
    kept.write_bytes(damage)
    assert read() == ["1 late", "2 compiled"]
    assert read() == ["1 late", "0 compiled"]


def test_a_cut_file_is_not_run(read, kept):
    read()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert read() == ["1 late", "2 compiled"]


@pytest.mark.parametrize("level", [0, 1, 2], ids=["folder", "cache", "home"])
def test_nothing_is_taken_from_where_others_can_write(read, kept, level):
    read()
    folder = kept.parents[level]
    folder.chmod(0o770)
    before = kept.read_bytes()
    kept.write_bytes(before[:-1])
    assert read() == ["1 late", "2 compiled"]
    assert kept.read_bytes() == before[:-1]


def test_a_file_that_others_can_write_is_not_run(read, kept):
    read()
    kept.chmod(0o666)
    assert read() == ["1 late", "2 compiled"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read() == ["1 late", "0 compiled"]


def test_a_file_that_is_a_link_or_a_pipe_is_not_read(read, kept, tmp_path):
    read()
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    assert read() == ["1 late", "2 compiled"]
    kept.unlink()
    os.mkfifo(str(kept))
    assert read() == ["1 late", "2 compiled"]


def test_a_folder_that_is_a_link_is_not_followed(read, kept, tmp_path):
    read()
    kept.parent.rename(tmp_path / "elsewhere")
    kept.parent.symlink_to(tmp_path / "elsewhere")
    assert read() == ["1 late", "2 compiled"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_nothing_is_taken_from_a_folder_of_somebody_else(read, kept):
    read()
    os.chown(str(kept.parent), 12345, 12345)
    assert read() == ["1 late", "2 compiled"]


def test_pythons_own_switch_forbids_it(read, kept):
    assert read(PYTHONDONTWRITEBYTECODE="1") == ["1 late", "2 compiled"]
    assert not kept.exists()
    read()
    assert read(PYTHONDONTWRITEBYTECODE="1") == ["1 late", "2 compiled"]


def test_where_nothing_can_be_kept_it_is_compiled_each_time(read, home):
    (home / ".cache").write_text("a file")
    assert read() == ["1 late", "2 compiled"]
    assert read() == ["1 late", "2 compiled"]


def test_outside_of_an_archive_python_keeps_the_bytecode_itself(read, home, kept):
    read()
    before = kept.read_bytes()
    with compiled.remembered("reader", str(home)):
        importer = sys.meta_path[0]
        assert importer.find_spec(PACKAGE + ".vpd", [os.path.dirname(compiled.__file__)]) is None
    assert importer not in sys.meta_path
    assert kept.read_bytes() == before


def test_what_is_not_of_this_collection_is_left_to_python(home):
    with compiled.remembered("reader", str(home)):
        assert sys.meta_path[0].find_spec("ansible.module_utils.basic", []) is None
