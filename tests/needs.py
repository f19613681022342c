# SPDX-License-Identifier: Apache-2.0
"""What a story does where something is not there that it needs. Used by fixtures and stories."""

import os
from typing import NoReturn

import pytest


def missing(what: str, why: str) -> NoReturn:
    """Skip the story, and say *why*; or fail it where CYBORG_TESTS_NEED names *what*, as in CI."""
    if what in os.environ.get("CYBORG_TESTS_NEED", "").split(","):
        pytest.fail(why)
    pytest.skip(why)
