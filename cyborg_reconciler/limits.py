# SPDX-License-Identifier: Apache-2.0
"""How large and how deep may be what is sent to the conductor? Pure.

Called by the API, by what calls agents and by the database, which refuse what is beyond, and by the agent, which does
not send it and takes no more itself.
"""

from typing import Any, Final

#: No body of a request is longer.
MAX_BODY_BYTES: Final = 1024 * 1024
#: Devices of drivers, which no facts tell of: in all of a host, and of one driver.
HOST_DEVICES: Final = 2048
DRIVER_DEVICES: Final = 1024
#: Devices that an agent tells of at its own port, and the length of that answer.
HARDWARE_DEVICES: Final = 8192
HARDWARE_BYTES: Final = 4 * 1024 * 1024
#: Kernel modules that facts are to speak of besides those of devices: more than anybody declares.
MODULES: Final = 1024
#: Commands that an agent says in one check-in that it carried out.
COMMANDS_DONE: Final = 256
#: How deep a free tree may be nested: what is stored is read by others, whose parsers have limits of their own.
MAX_DEPTH: Final = 16


def is_deep(tree: dict[str, Any]) -> bool:
    """Return whether *tree* is nested deeper than `MAX_DEPTH` levels."""
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            below
            for one in level
            for below in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return False
    return True
