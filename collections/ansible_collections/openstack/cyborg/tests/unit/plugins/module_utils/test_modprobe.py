# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import (
    MODPROBE,
    gather_configuration,
    own_file,
    parse_load,
    parse_modprobe,
    read_configuration,
    render_modprobe,
)
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree


def test_a_file_in_etc_hides_that_of_the_same_name_elsewhere(tmp_path):
    host = HostTree(tmp_path)
    host.file("/usr/lib/modprobe.d/50-x.conf", "blacklist hidden\n")
    host.file("/etc/modprobe.d/50-x.conf", "# nothing\n")
    host.file("/lib/modprobe.d/10-y.conf", "options a x=1 y=1\nblacklist seen\n")
    host.file("/run/modprobe.d/90-z.conf", "options a x=2\n")
    host.file("/etc/modprobe.d/readme.txt", "blacklist not-read\n")
    texts = read_configuration(host.tree, MODPROBE)
    assert list(texts) == ["/lib/modprobe.d/10-y.conf", "/etc/modprobe.d/50-x.conf", "/run/modprobe.d/90-z.conf"]
    assert gather_configuration(texts.values()) == (["seen"], {"a": {"x": "2", "y": "1"}})


def test_dashes_and_underscores_name_the_same_module():
    assert parse_modprobe("blacklist snd-hda-intel\noptions vfio-pci ids=1af4:1054\n") == (
        ["snd_hda_intel"],
        {"vfio_pci": {"ids": "1af4:1054"}},
    )


def test_comments_continued_lines_and_quotes_are_understood():
    text = '# blacklist no\noptions a \\\n  x="1 2" flag\ninstall b /bin/false\noptions\n'
    assert parse_modprobe(text) == (["b"], {"a": {"x": "1 2", "flag": ""}})


def test_what_is_rendered_is_parsed_back():
    options = {"ids": "1af4:1054,1234:11e8", "text": "two words", "flag": ""}
    text = render_modprobe("vfio_pci", blacklisted=True, options=options)
    assert parse_modprobe(text) == (["vfio_pci"], {"vfio_pci": options})
    assert render_modprobe("vfio_pci", blacklisted=False, options={}) == ""


def test_our_files_are_named_after_the_module():
    assert own_file(MODPROBE, "vfio-pci") == "/etc/modprobe.d/cyborg-vfio_pci.conf"


def test_comments_of_both_kinds_are_left_out_of_what_is_loaded():
    assert parse_load("# one\n; two\n\n vfio-pci \n") == ["vfio_pci"]
