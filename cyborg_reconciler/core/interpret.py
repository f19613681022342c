# SPDX-License-Identifier: Apache-2.0
"""What is observed of one host, in the same words as what is desired of it. Pure."""

from collections.abc import Mapping

from cyborg_reconciler.core.features import BY_NAME
from cyborg_reconciler.core.state import FieldPath, HostState, Observed, Value
from cyborg_reconciler.core.subject import Subject


def interpret(subject: Subject, desired: Mapping[FieldPath, Value]) -> HostState:
    """Return the observed value of each field that *desired* opens.

    Shape: the same paths as *desired*. What could not be read is Unknown, with the reason; never ABSENT.
    """
    observed: dict[FieldPath, Observed] = {}
    for path, value in desired.items():
        observed[path] = BY_NAME[path[1]].observe(path, value, subject)
    return observed
