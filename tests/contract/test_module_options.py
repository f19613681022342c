# SPDX-License-Identifier: Apache-2.0
"""Do the controller, which plans options of modules, and `kernel_module`, which sets them, agree on what is the same?

Where they did not, a plan would ask for what the module finds done, or the module change what no plan asks for.
"""

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_modules
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree
from cyborg_reconciler.core.features.kernel_modules import _means as means_to_the_controller

#: What a file or the running module says, what is wanted, and whether that is the same.
TABLE = [
    ("1", "1", True),
    ("Y", "1", True),
    ("on", "true", True),
    ("t", "y", True),
    ("N", "off", True),
    ("0", "f", True),
    ("Y", "0", False),
    ("Y", "2", False),
    ("N", "garbage", False),
    ("", "1", True),
    ("", "", True),
    ("", "0", False),
    ("16", "0x10", True),
    ("16", "020", True),
    ("16", "20", False),
    ("-1", "-0x1", True),
    ("09", "9", False),
    ("1,0,1", "Y,N,on", True),
    ("0x10,2", "16,2", True),
    ("1,2", "1,2,0", False),
    ("1,2", "2,1", False),
    ("10de:20b0,10de:1aef", "10de:20b0,10de:1aef", True),
    ("10de:20b0", "10DE:20B0", False),
    ("auto", "Auto", False),
    ("a b", "a b", True),
]


@pytest.mark.parametrize(("text", "wanted", "same"), TABLE)
class TestBothSides:
    def test_the_controller(self, text, wanted, same):
        assert means_to_the_controller(text, wanted) is same
        assert means_to_the_controller(wanted, text) is same

    @pytest.mark.parametrize("path", ["/etc/modprobe.d/mine.conf", "/etc/modprobe.d/cyborg-vfio_pci.conf"])
    def test_the_modules_check_mode(self, tmp_path, text, wanted, same, path):
        host = HostTree(tmp_path)
        host.file(path, f'options vfio-pci an-option="{text}"\n' if text else "options vfio-pci an-option\n")
        given = {name: option.get("default") for name, option in kernel_modules.ARGUMENTS.items()}
        given |= {"name": "vfio_pci", "options": {"an_option": wanted}}
        result = kernel_modules.ensure(Host(host.tree, check=True, link=("local", None)), given)
        assert result.changed is not same
        assert result.before["options"] == {"an_option": text}
        assert result.after["options"] == {"an_option": text if same else wanted}
