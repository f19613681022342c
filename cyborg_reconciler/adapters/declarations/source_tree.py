# SPDX-License-Identifier: Apache-2.0
"""Is the source of a DKMS driver there, and is it what its document says?

Reads the source's dkms.conf. Called by `yaml`, with valid documents.
"""

import re
from pathlib import Path
from typing import Final

from cyborg_reconciler.adapters.declarations.folder import DKMS_CONF, unreadable
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.errors import Problem

#: dkms.conf is shell; what it sets with other means than a plain value is not compared.
#: Source: dkms(8), "DKMS.CONF".
_SETTING: Final = re.compile(
    r"""^\s*(PACKAGE_NAME|PACKAGE_VERSION)=(["']?)([A-Za-z0-9.+~:_-]+)\2\s*(?:#.*)?$""", re.MULTILINE
)
_MAX_CONF_BYTES: Final = 64 * 1024


def read_source(located: Located[Driver], folder: Path) -> tuple[Located[Driver], list[Problem]]:
    """Return *located* with the full path of its source, and what is wrong with the source.

    *folder* holds the document's file; the document's own path is relative to it.
    """
    spec = located.document.spec
    if spec.dkms is None:
        return located, []
    tree = Path(folder, spec.dkms.path).resolve()
    conf = tree / DKMS_CONF
    line = located.line("spec.dkms.path")
    try:
        with conf.open("rb") as file:
            text = file.read(_MAX_CONF_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        message = f"there is no {DKMS_CONF} in {tree}"
        return located, [
            Problem(located.file, line, "spec.dkms.path", message, "name the folder of the driver's source")
        ]
    except OSError as exc:
        return located, [unreadable(str(conf), exc)]
    said = {name: value for name, _, value in _SETTING.findall(text)}
    problems = [
        Problem(located.file, located.line(field), field, f"is {wanted}, but {conf} says {found}", f'write "{found}"')
        for field, wanted, found in (
            ("spec.dkms.package", spec.dkms.package, said.get("PACKAGE_NAME")),
            ("spec.version", spec.version, said.get("PACKAGE_VERSION")),
        )
        if found is not None and found != wanted
    ]
    dkms = spec.dkms.model_copy(update={"path": str(tree)})
    document = located.document.model_copy(update={"spec": spec.model_copy(update={"dkms": dkms})})
    return Located(document, located.file, located.lines), problems
