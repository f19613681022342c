# SPDX-License-Identifier: Apache-2.0
"""Has each of the collection's modules an integration target? That these hold is a gate of `make lint`."""

from tools.targets import COLLECTION, names


def test_every_module_but_those_that_roles_wrap_has_a_target():
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    assert modules - names() == {"apply_actions", "dkms_package"}
