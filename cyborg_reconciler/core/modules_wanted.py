# SPDX-License-Identifier: Apache-2.0
"""Of which kernel modules must the facts of a host speak, beside those of its devices? Pure.

Called by `survey` before hosts are asked, and by whoever judges whether what an agent told will do.
"""

from collections.abc import Mapping, Sequence

from cyborg_reconciler.core.subject import matches, module_name
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.driver import Match
from cyborg_reconciler.documents.facts import Facts

#: Kernel modules, each with the rules for the devices that it is wanted for; without any it is wanted on every host.
ModulesWanted = Mapping[str, Sequence[Match]]


def modules_of(declared: Declared) -> ModulesWanted:
    """Return the modules that the declarations speak of, in the order of the alphabet.

    Those of a driver that no policy names are wanted where there are devices for it.
    """
    everywhere: set[str] = set()
    named: set[str] = set()
    for policy in declared.policies:
        if modules := policy.document.spec.kernel_modules:
            everywhere.update((*modules.load, *modules.blacklist, *modules.options))
        if driver := policy.document.spec.driver:
            named.add(driver.name)
    wanted: dict[str, tuple[Match, ...]] = {}
    for located in declared.drivers:
        spec = located.document.spec
        its_own = {*spec.conflicts, *((spec.kernel_module,) if spec.kernel_module else ())}
        if located.document.metadata.name in named or not spec.match:
            everywhere.update(its_own)
        wanted |= {name: (*wanted.get(name, ()), *spec.match) for name in its_own}
    return dict(sorted((wanted | dict.fromkeys(everywhere, ())).items()))


def speak_of(facts: Facts, wanted: ModulesWanted) -> bool:
    """Return whether *facts* speak of all modules that are *wanted* on a host with these devices."""
    told = {module.name for module in facts.drivers.modules}
    return all(
        module_name(name) in told or (rules and not any(matches(one, rules, perhaps=True) for one in facts.devices))
        for name, rules in wanted.items()
    )
