# SPDX-License-Identifier: Apache-2.0
"""Of which kernel modules agents are told, and who waits until that is known."""

import threading
from concurrent.futures import ThreadPoolExecutor

from cyborg_reconciler.conductor.modules import LOOK_EVERY_S, Modules
from cyborg_reconciler.documents.declared import Declared
from tests.scenarios.story import policy_of

LIMIT_S = 60


class Slow:
    """Declarations that are another state of things at each look, and are read when that is allowed."""

    def __init__(self):
        self.looks, self.begun, self.may_go_on = 0, threading.Event(), threading.Event()

    def stamp(self):
        self.looks += 1
        return str(self.looks)

    def read(self):
        self.begun.set()
        assert self.may_go_on.wait(LIMIT_S)
        return Declared(policies=(policy_of({"name": "m", "kernel_modules": {"load": [f"mod{self.looks}"]}}, 1),))


def test_who_checks_in_while_declarations_are_read_has_what_was_known_before():
    declared, now_s = Slow(), [0.0]
    modules = Modules(declared, lambda: now_s[0])
    declared.may_go_on.set()
    assert modules.names() == ("mod1",)
    now_s[0] += LOOK_EVERY_S
    declared.begun.clear()
    declared.may_go_on.clear()
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(modules.names)
        assert declared.begun.wait(LIMIT_S)
        try:
            assert pool.submit(modules.names).result(LIMIT_S) == ("mod1",)
        finally:
            declared.may_go_on.set()
        assert reader.result(LIMIT_S) == modules.names() == ("mod2",)
