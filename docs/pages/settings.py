# SPDX-License-Identifier: Apache-2.0
"""What can be set for an installation? The page of the settings, from their class. Called by `generate`. Pure."""

import re
from dataclasses import MISSING, Field, fields

from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.settings import PREFIX, Settings
from docs.pages.markdown import code, page, table

INTRODUCTION = f"""
Settings are what an installation is told beside its policies. They come from a TOML file, then from the environment,
then from the options of a command; what comes later wins.

The file is `$XDG_CONFIG_HOME/cyborg-reconciler/config.toml` (without that variable
`~/.config/cyborg-reconciler/config.toml`), or the one that `{PREFIX}CONFIG` names. It need not be there, unless it is
named so. A name that is not known, and a value that cannot be used, is an error.

```toml
inventory = ["/etc/ansible/hosts"]
policies = "/srv/policies"
forks = 20
```
"""


def render() -> str:
    """Return the page."""
    return page("Settings", INTRODUCTION, settings_table(Settings, PREFIX), LOADER)


def settings_table(kind: type[Settings] | type[AgentSettings], prefix: str) -> str:
    """Return the table of the settings that the class *kind* has."""
    meanings = parse_attributes(kind.__doc__ or "")
    rows = [
        (code(field.name), meanings[field.name], default_of(field), code(prefix + field.name.upper()))
        for field in fields(kind)
    ]
    return table(["setting", "what it says", "without it", "in the environment"], rows)


LOADER = """
Users, keys, `become`, proxies and the like are Ansible's matter: they stand in the inventory and in `ansible.cfg`,
which are used as `ansible-playbook` would use them. Host keys are checked unless your own configuration of Ansible
says otherwise.
"""


def default_of(field: "Field[object]") -> str:
    """Return what a setting is when nobody says otherwise."""
    if field.default is MISSING and field.name == "conductor":
        return "an error"
    if field.default is MISSING:
        return "`$XDG_STATE_HOME/cyborg-reconciler`, else `~/.local/state/cyborg-reconciler`"
    return code(str(field.default)) if field.default else "nothing"


def parse_attributes(docstring: str) -> dict[str, str]:
    """Return what the ``Attributes:`` of a docstring say, by name; ``a, b: …`` speaks of both."""
    found: dict[str, str] = {}
    _, _, text = docstring.partition("Attributes:\n")
    for entry in re.split(r"\n(?=        ?\w)", "\n" + re.split(r"\n\s*\n", text)[0]):
        match = re.match(r"\s*([\w, ]+?): (.*)", entry, re.DOTALL)
        if match:
            found |= dict.fromkeys(match[1].split(", "), " ".join(match[2].split()))
    return found
