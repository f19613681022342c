# SPDX-License-Identifier: Apache-2.0
"""On which core does a new process of gunicorn's stay?"""

import pytest

from cyborg_reconciler_api.cores import core_for


@pytest.mark.parametrize(
    ("allowed", "taken", "core"),
    [
        ({4, 7}, [], 4),
        ({4, 7}, [4], 7),
        ({4, 7}, [7], 4),  # that of one that has ended
        ({4, 7}, [4, 7, 4], 7),  # while all are replaced
        ({4, 7}, [None, None], 4),
        ({4, 7}, [2, 2, 4], 7),  # where others are allowed than before
        ({4}, [4], 4),
        ({4, 5, 6}, [], None),
    ],
)
def test_it_is_that_where_fewest_are_unless_there_are_more_cores_than_processes(allowed, taken, core):
    assert core_for(allowed, taken, 2) == core
