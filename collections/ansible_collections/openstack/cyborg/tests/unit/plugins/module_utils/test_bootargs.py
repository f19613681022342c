# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do arguments of the kernel get into the boot loader's configuration, and nothing else with them?"""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import (
    grub,
    grub_dropin,
    grubby,
    kernel_cmdline,
    kernel_words,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable

DEFAULTS = 'GRUB_CMDLINE_LINUX="{linux}"\nGRUB_CMDLINE_LINUX_DEFAULT="{default}"\n'


def words_by_a_shell(tmp_path, args, linux="", default=""):
    """What grub-mkconfig would see: the operator's file, then the drop-in, by a real shell."""
    defaults, dropin = tmp_path / "grub", tmp_path / "zz.cfg"
    defaults.write_text(DEFAULTS.format(linux=linux, default=default))
    dropin.write_text(grub_dropin.render_dropin(args))
    script = 'set -eu; . "$1"; . "$2"; printf "%s %s" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
    command = ["/bin/sh", "-c", script, "grub-mkconfig", str(defaults), str(dropin)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == ""
    return grub.parse_words(done.stdout)


def test_arguments_are_appended_to_what_the_operator_has(tmp_path):
    words = words_by_a_shell(tmp_path, {"intel_iommu": "on", "nosmt": True}, linux="net.ifnames=0", default="quiet")
    assert words == ["net.ifnames=0", "intel_iommu=on", "nosmt", "quiet"]


def test_another_value_of_the_operator_gives_way_wherever_it_stands(tmp_path):
    words = words_by_a_shell(
        tmp_path, {"intel-iommu": "on"}, linux="intel_iommu=off a=1", default="quiet intel_iommu=strict,x"
    )
    assert words == ["a=1", "intel-iommu=on", "quiet"]


def test_names_that_only_begin_alike_stay(tmp_path):
    kept = "iommu.strict=1 iommux=2 xiommu=3 vfio-pciXids=4"
    words = words_by_a_shell(tmp_path, {"iommu": "pt", "vfio-pci.ids": "10de:20b0"}, linux=kept)
    assert words == [*kept.split(), "iommu=pt", "vfio-pci.ids=10de:20b0"]


def test_a_list_replaces_every_occurrence(tmp_path):
    words = words_by_a_shell(tmp_path, {"console": ["tty0", "ttyS0,115200"]}, linux="console=tty1 console=ttyS1 a")
    assert words == ["a", "console=tty0", "console=ttyS0,115200"]


@pytest.mark.parametrize(
    "value",
    ["file a.c +p; reboot", "a|b&c", "(x) <y> {z} #w", "1,2 3", "*", "~!?[0-9]", "a=b=c", "%s%n", ""],
)
def test_a_value_stays_one_word_whatever_is_in_it(tmp_path, value):
    assert words_by_a_shell(tmp_path, {"dyndbg": value}, default="quiet") == ["dyndbg=" + value, "quiet"]


@pytest.mark.parametrize(
    "value", ["$(touch pwned)", "`id`", "a'b", 'a"b', "a\\b", "a\nb", "a\0b", "ä", None, False, 1.5, []]
)
def test_a_value_that_a_shell_or_grub_would_read_is_refused(value):
    with pytest.raises(ValueError, match="dyndbg"):
        kernel_words.checked_args({"dyndbg": value})


@pytest.mark.parametrize("name", ["", "a b", "a=b", "$x", "-x", "a;b", "a\n", "a'b"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="no name of a kernel argument"):
        kernel_words.checked_args({name: "1"})


def test_one_name_in_two_spellings_is_refused():
    with pytest.raises(ValueError, match="given twice"):
        kernel_words.checked_args({"intel_iommu": "on", "intel-iommu": "off"})


def test_the_drop_in_tells_what_it_sets():
    args = {"intel_iommu": "on", "console": ["tty0", "ttyS0"], "nosmt": True, "dyndbg": "file a +p"}
    assert grub_dropin.parse_dropin(grub_dropin.render_dropin(args)) == args
    assert grub_dropin.render_dropin({}) == ""


def test_the_facts_see_what_the_drop_in_adds(tmp_path):
    folder = tmp_path / "etc/default/grub.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/default/grub").write_text(DEFAULTS.format(linux="", default="quiet"))
    (folder / "zz-cyborg-reconciler.cfg").write_text(grub_dropin.render_dropin({"dyndbg": "file a +p", "iommu": "pt"}))
    settings = grub.read_defaults(Tree(str(tmp_path)), dropins=True)
    assert grub.configured_words(settings) == ["dyndbg=file a +p", "iommu=pt", "quiet"]
    assert grub_dropin.read_others(Tree(str(tmp_path))) == ["quiet"]


class TestMerge:
    def test_what_the_operator_configured_as_wanted_is_left_to_him(self):
        args, values = kernel_words.merge({}, {"iommu": "pt"}, [], ["iommu=pt", "quiet"])
        assert (args, values) == ({}, {"iommu": ["pt"]})

    def test_another_value_of_his_is_overridden(self):
        args, values = kernel_words.merge({}, {"iommu": "pt"}, [], ["iommu=off"])
        assert (args, values) == ({"iommu": "pt"}, {"iommu": ["pt"]})

    def test_his_value_counts_again_when_ours_goes(self):
        args, values = kernel_words.merge({"iommu": "pt", "a": "1"}, {}, ["iommu"], ["iommu=off"])
        assert (args, values) == ({"a": "1"}, {"iommu": ["off"]})

    def test_what_was_never_ours_is_not_taken_away(self):
        args, values = kernel_words.merge({}, {}, ["quiet"], ["quiet"])
        assert (args, values) == ({}, {"quiet": [True]})

    def test_names_that_nobody_asked_about_stay_ours(self):
        args, _values = kernel_words.merge({"a": "1"}, {"b": "2"}, [], [])
        assert args == {"a": "1", "b": "2"}

    def test_where_his_words_cannot_be_read_ours_is_set_and_nothing_is_foretold(self):
        args, values = kernel_words.merge({}, {"b": "2"}, ["c"], None)
        assert (args, values) == ({"b": "2"}, {"b": ["2"], "c": None})


class TestDefaultsOfRhel:
    def test_words_take_the_place_of_those_of_their_names(self):
        text = 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="crashkernel=1G iommu=off rhgb"\nGRUB_DISABLE_RECOVERY="true"'
        edited = grubby.edit_defaults(text, ["iommu"], ["iommu=pt"])
        assert edited == text.replace("crashkernel=1G iommu=off rhgb", "crashkernel=1G rhgb iommu=pt")

    def test_a_quoted_value_survives(self):
        text = "GRUB_CMDLINE_LINUX='dyndbg=\"file a +p\" quiet'"
        edited = grubby.edit_defaults(text, ["iommu"], ["iommu=pt"])
        assert grub.configured_words(grub.parse_defaults(edited)) == ["dyndbg=file a +p", "quiet", "iommu=pt"]

    def test_a_file_without_the_line_gets_it(self):
        assert grubby.edit_defaults("GRUB_TIMEOUT=5", [], ["a=1"]) == 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="a=1"\n'

    @pytest.mark.parametrize(
        ("line", "edited"),
        [
            ('GRUB_CMDLINE_LINUX="a=1 rhgb" # keep', 'GRUB_CMDLINE_LINUX="a=1 rhgb iommu=pt" # keep'),
            ('export GRUB_CMDLINE_LINUX="rhgb"', 'export GRUB_CMDLINE_LINUX="rhgb iommu=pt"'),
            ("GRUB_CMDLINE_LINUX=rhgb", 'GRUB_CMDLINE_LINUX="rhgb iommu=pt"'),
            ("GRUB_CMDLINE_LINUX='cost=5$'", 'GRUB_CMDLINE_LINUX="cost=5\\$ iommu=pt"'),
            ('GRUB_CMDLINE_LINUX="cost=5\\$"', 'GRUB_CMDLINE_LINUX="cost=5\\$ iommu=pt"'),
            (
                "# GRUB_CMDLINE_LINUX=off\nGRUB_CMDLINE_LINUX=",
                '# GRUB_CMDLINE_LINUX=off\nGRUB_CMDLINE_LINUX="iommu=pt"',
            ),
        ],
    )
    def test_a_plain_line_is_edited_where_it_stands(self, line, edited):
        assert grubby.edit_defaults(line + "\nX=1\n", ["iommu"], ["iommu=pt"]) == edited + "\nX=1\n"

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ('GRUB_CMDLINE_LINUX="a \\\n b"', 1),
            ('GRUB_CMDLINE_LINUX="a"\nGRUB_CMDLINE_LINUX+=" b"', 2),
            ('GRUB_CMDLINE_LINUX="a"\nX=1\nGRUB_CMDLINE_LINUX="b"', 3),
            ('\nGRUB_CMDLINE_LINUX="$OURS a"', 2),
            ('GRUB_CMDLINE_LINUX="`date`"', 1),
            ('  GRUB_CMDLINE_LINUX="a"', 1),
            ('test -e /x && GRUB_CMDLINE_LINUX="a"', 1),
        ],
    )
    def test_what_only_a_shell_understands_is_not_touched_and_named(self, text, number):
        with pytest.raises(ValueError, match=f"line {number}: "):
            grubby.edit_defaults(text, ["iommu"], ["iommu=pt"])

    def test_a_line_that_may_not_count_is_not_touched(self):
        with pytest.raises(ValueError, match="whether this counts"):
            grubby.edit_defaults('if true; then\nGRUB_CMDLINE_LINUX="a"\nfi\n', ["iommu"], ["iommu=pt"])

    def test_the_file_keeps_its_bytes_and_its_mode(self, tmp_path):
        defaults = tmp_path / "etc/default/grub"
        defaults.parent.mkdir(parents=True)
        defaults.write_bytes(b'# caf\xe9\nGRUB_CMDLINE_LINUX="rhgb"\n')
        defaults.chmod(0o600)
        change = grubby.plan(Tree(str(tmp_path)), {"iommu": "pt"}, [])
        Host(Tree(str(tmp_path))).write_file(grubby.DEFAULTS, change.defaults)
        assert defaults.read_bytes() == b'# caf\xe9\nGRUB_CMDLINE_LINUX="rhgb iommu=pt"\n'
        assert defaults.stat().st_mode & 0o777 == 0o600


class TestKernelsToCome:
    @pytest.mark.parametrize(
        ("text", "edited"),
        [
            ("root=UUID=1 ro iommu=off quiet\n", "root=UUID=1 ro quiet iommu=pt\n"),
            ("root=UUID=1  ro\n", "root=UUID=1  ro iommu=pt\n"),
            ('dyndbg="file a +p" iommu=off', 'dyndbg="file a +p" iommu=pt\n'),
            ("root=UUID=1\n# iommu=off\n", "root=UUID=1 iommu=pt\n# iommu=off\n"),
            ("root=UUID=1\niommu=off\nro\n", "root=UUID=1\n\nro iommu=pt\n"),
            ("# nothing\n", "# nothing\niommu=pt\n"),
            ("", "iommu=pt\n"),
        ],
    )
    def test_words_take_the_place_of_those_of_their_names(self, text, edited):
        assert kernel_cmdline.edit(text, ["iommu"], ["iommu=pt"]) == edited
        assert kernel_cmdline.edit(edited, ["iommu"], ["iommu=pt"]) == edited

    def test_a_comment_is_no_argument(self):
        assert kernel_cmdline.parse('ro dyndbg="file a +p"\n# iommu=off\nquiet\n') == [
            "ro",
            "dyndbg=file a +p",
            "quiet",
        ]

    def plan(self, tmp_path, text, wanted, absent=(), record=None):
        for path, content in ((grub.LATER, text), (grubby.RECORD, record)):
            if content is not None:
                (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path[1:]).write_text(content)
        return grubby.plan(Tree(str(tmp_path)), wanted, list(absent))

    def test_what_ours_replaces_there_is_kept_apart_from_what_it_replaces_in_the_entries(self, tmp_path):
        change = self.plan(tmp_path, "ro iommu=off iommu=soft\n", {"iommu": "pt"})
        assert (change.later_words, change.later_replaced) == (["iommu=pt"], {"iommu": ["off", "soft"]})
        assert (change.replaced, change.later) == ({"iommu": []}, {"iommu": ["pt"]})

    def test_what_is_ours_and_missing_there_is_needed(self, tmp_path):
        record = '{"version": 1, "args": {"iommu": "pt"}, "replaced": {"iommu": []}}'
        assert self.plan(tmp_path, "ro\n", {}, record=record).is_needed
        assert not self.plan(tmp_path, "iommu=off ro iommu=pt\n", {}, record=record).is_needed

    def test_what_was_set_before_the_file_was_there_leaves_what_the_entries_had(self, tmp_path):
        record = '{"version": 1, "args": {"iommu": "pt"}, "replaced": {"iommu": ["off"]}}'
        change = self.plan(tmp_path, "ro iommu=pt\n", {}, ["iommu"], record=record)
        assert (change.later_words, change.later) == (["iommu=off"], {"iommu": ["off"]})

    def test_one_that_cannot_be_read_is_not_overwritten(self, tmp_path):
        (tmp_path / "etc/kernel/cmdline").mkdir(parents=True)
        with pytest.raises(Unreadable, match="/etc/kernel/cmdline: Is a directory"):
            grubby.plan(Tree(str(tmp_path)), {"iommu": "pt"}, [])
