# SPDX-License-Identifier: Apache-2.0
"""On which core does a new process of gunicorn's stay?"""

import pytest

from cyborg_reconciler_api.cores import core_for


@pytest.mark.parametrize(
    ("allowed", "taken", "processes", "core"),
    [
        ({4, 7}, [], 2, 4),
        ({4, 7}, [4], 2, 7),
        ({4, 7}, [7], 2, 4),  # that of one that has ended
        ({4, 7}, [4, 7, 4], 2, 7),  # while all are replaced
        ({4, 7}, [None, None], 2, 4),
        ({4, 7}, [2, 2, 4], 2, 7),  # where others are allowed than before
        ({4}, [4], 2, 4),
        ({4, 7}, [4, 7], 4, 4),
        ({4, 7}, [], 3, None),  # one core would have two of them
        ({4, 5, 6}, [], 2, None),
    ],
)
def test_it_is_that_where_fewest_are_if_each_core_has_as_many_in_the_end(allowed, taken, processes, core):
    assert core_for(allowed, taken, processes) == core
