# SPDX-License-Identifier: Apache-2.0
"""What is observed of one host, in the same words as what is desired of it. Pure."""

from collections.abc import Mapping
from typing import Final

from cyborg_reconciler.core.features import BY_NAME
from cyborg_reconciler.core.state import FieldPath, HostState, Value
from cyborg_reconciler.core.subject import Subject

_OBSERVERS: Final = {name: feature.observe for name, feature in BY_NAME.items()}


def interpret(subject: Subject, desired: Mapping[FieldPath, Value]) -> HostState:
    """Return the observed value of each field that *desired* opens.

    Shape: the same paths as *desired*. What could not be read is Unknown, with the reason; never ABSENT.
    """
    return {path: _OBSERVERS[path[1]](path, value, subject) for path, value in desired.items()}
