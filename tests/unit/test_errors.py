# SPDX-License-Identifier: Apache-2.0
"""Which errors there are: that the tree at the top of their module is all of them, and what programs know them by."""

import inspect
import re

import pytest

from cyborg_reconciler import errors
from cyborg_reconciler_api.errors import describe


def test_the_tree_has_every_error_below_its_base_with_what_happens_next():
    drawn, above = set(), []
    for line in re.findall(r"^    .*Error\b.*$", errors.__doc__, re.MULTILINE):
        name, _, step, *_ = [*re.search(r"(\w+Error)( +(\w+))?", line).groups()]
        depth = line.index(name)
        above = [one for one in above if one[0] < depth]
        drawn.add((name, above[-1][1] if above else "Exception", step or "STALL"))
        above.append((depth, name))
    there = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.ReconcilerError)]
    assert drawn == {(one.__name__, one.__base__.__name__, one.next_step.name) for one in there}


@pytest.mark.parametrize(
    ("error", "kind"),
    [(errors.StaleCheckInError, "stale-check-in"), (errors.UnknownFingerprintError, "unknown-fingerprint")],
)
def test_what_agents_act_upon_is_a_word_of_its_own_and_not_the_name_of_a_class(error, kind):
    status, told, *_ = describe(error(wanted="this", found="that"))
    assert (status, told, error.kind) == (409, kind, kind)
