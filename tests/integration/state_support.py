# SPDX-License-Identifier: Apache-2.0
"""What the tests of the state modules share: a simulated host, and how something is made so on it."""

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree


class Subject:
    """A simulated host and what is done to it."""

    def __init__(self, host):
        self.host = host
        self.tree = Tree(str(host.root))

    def make(self, feature, *, check=False, **args):
        given = {name: option.get("default") for name, option in feature.ARGUMENTS.items()} | args
        return feature.ensure(Host(Tree(str(self.host.root)), check=check, link=("local", None)), given)

    def refusal(self, feature, **args):
        with pytest.raises(Refusal) as refused:
            self.make(feature, **args)
        return refused.value

    def read(self, feature, **args):
        given = {name: option.get("default") for name, option in feature.ARGUMENTS.items()} | args
        return feature.read(Tree(str(self.host.root)), given)

    def traces(self):
        """The files of ours that the host has, apart from the record and the lock."""
        found = {str(path.relative_to(self.host.root)) for path in self.host.root.rglob("*cyborg*")}
        return {path for path in found if not path.startswith(("run/", "var/lib"))}
