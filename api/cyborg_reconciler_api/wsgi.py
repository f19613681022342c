# SPDX-License-Identifier: Apache-2.0
"""The application that gunicorn serves: ``gunicorn 'cyborg_reconciler_api.wsgi:create()'``.

Takes the settings of the process, opens the stores, and puts the API together.
"""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

from cyborg_reconciler.bootstrap import (
    Stores,
    SystemClock,
    agent_port,
    open_meter,
    open_stores,
    open_usage,
    recorded_declarations,
    rules_of,
    shipped_drivers,
    signs_of_life,
    wanted_modules,
)
from cyborg_reconciler.conductor.accelerators import Accelerators
from cyborg_reconciler.conductor.agents import Agents, AgentTerms
from cyborg_reconciler.conductor.allocations import Allocations
from cyborg_reconciler.conductor.credentials import Credentials, Uses
from cyborg_reconciler.conductor.discovery import Discovery
from cyborg_reconciler.conductor.drivers import Drivers
from cyborg_reconciler.conductor.plans import Plans
from cyborg_reconciler.conductor.policies import Policies
from cyborg_reconciler.conductor.presence import Presence, SignsOfLife
from cyborg_reconciler.conductor.refusals import Refusals
from cyborg_reconciler.conductor.runs import Runs
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.conductor.secrets import hash_of
from cyborg_reconciler.documents.rest.fleet import ServiceType
from cyborg_reconciler.errors import JournalOutageError
from cyborg_reconciler.meters import SHARED_FOLDER
from cyborg_reconciler.secret_files import read_secret
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import Options
from cyborg_reconciler_api.access import Scheme, TokenScheme, nobody_is_asked
from cyborg_reconciler_api.app import create_app
from cyborg_reconciler_api.connections import SERVED
from cyborg_reconciler_api.proxies import behind
from cyborg_reconciler_api.rates import Limits
from cyborg_reconciler_api.reload import current_settings, place_and_start, stands_in
from cyborg_reconciler_api.services import Services
from cyborg_reconciler_api.streams import Streams
from cyborg_reconciler_api.waiting import Waiting

#: What a server is, by the setting `agents`: where these are served there is a conductor.
SERVICES: Final[Mapping[str, Sequence[ServiceType]]] = {
    "here": ("api", "conductor"),
    "elsewhere": ("api",),
    "only": ("conductor",),
}


def create() -> WSGIApplication:
    """Return the API over the stores of this process's settings; they are closed when the process ends.

    Raises:
        ReconcilerError: the settings or the database cannot be used. Where the database may come back, and this process
            stands in for one that served, that is what is answered meanwhile.
    """
    settings = current_settings()

    def begin() -> WSGIApplication:
        with ExitStack() as stack:
            app = _begun(settings, stack)
            atexit.register(stack.pop_all().close)
        return app

    try:
        app = begin()
    except JournalOutageError as exc:
        if not stands_in():
            raise
        app = Waiting(begin, exc)
    return behind(app, settings.trusted_proxies)


def _begun(settings: Settings, stack: ExitStack) -> WSGIApplication:  # long: one line for each service that the API has
    """Return the API; what it has opened is closed with *stack*."""
    stores = stack.enter_context(open_stores(settings))
    usage = stack.enter_context(open_usage(settings, os.environ.get(SHARED_FOLDER)))
    clock, meter = SystemClock(), open_meter(stores.tallies, usage)
    refusals = Refusals(stores.journal, clock)
    stack.callback(refusals.close)
    fleet, shipped = stores.fleet, shipped_drivers()
    catalogue = {one.document.metadata.name: one.document.spec for one in shipped}
    rules = rules_of(stores)
    options = Options(facts_max_age=timedelta(seconds=settings.facts_max_age_s))
    controller = stores.journal.controller()
    for signs in _signs_of_life(settings, stores):
        stack.enter_context(signs.given())
    terms = agent_terms(settings)
    save_out = SaveOut(settings.save_out_interval_s, settings.save_out_batch, settings.threads)
    saver = Saver(stores.agents, save_out, meter, lambda: SERVED.count or settings.threads)
    stack.callback(saver.close)
    agents = Agents(stores.agents, saver, clock, terms, refusals, wanted_modules(stores).names, usage.note)
    return create_app(
        Services(
            authenticate=SCHEMES[settings.auth](settings, stores, stack),
            limits=Limits(settings.failed_logins_per_min, settings.requests_per_min, settings.lookups_per_min),
            refusals=refusals,
            accelerators=Accelerators(stores.accelerators, stores.hardware, rules, clock),
            accelerator_store=stores.accelerators,
            hardware=stores.hardware,
            discovery=Discovery(
                stores.agents, clock, agent_port(settings), lambda: stores.drivers.catalogue() or catalogue
            ),
            drivers=Drivers(stores.drivers, stores.journal, rules, catalogue, clock),
            agents=agents,
            check_database=stores.tallies.check,
            meter=meter,
            exposition=meter.exposition,
            open_paths=frozenset({"/metrics"} if settings.metrics_access == "anybody" else ()),
            hosts=fleet.hosts,
            backends=fleet.backends,
            policies=Policies(fleet.policies, fleet.declared, shipped, clock),
            policy_store=fleet.policies,
            declared=fleet.declared,
            shipped_drivers=shipped,
            plans=Plans(fleet.plans, recorded_declarations(stores), controller, clock, options),
            plan_store=fleet.plans,
            runs=Runs(fleet.runs, clock),
            run_store=fleet.runs,
            events=fleet.events,
            streams=Streams(fleet.events, most=settings.threads // 2, usage=usage),
            allocations=Allocations(fleet.allocations, clock),
            allocation_store=fleet.allocations,
            presence=Presence(fleet.services, clock, terms),
            agents_are=settings.agents,
        )
    )


def _signs_of_life(settings: Settings, stores: Stores) -> Iterator[SignsOfLife]:
    """Yield what says that this server is up, as what it is: all of its processes say the same."""
    place, started_at = place_and_start()
    for kind in SERVICES[settings.agents]:
        yield replace(signs_of_life(settings, stores, kind, place), started_at=started_at)


def _none(_settings: Settings, _stores: Stores, _stack: ExitStack) -> Scheme:
    return nobody_is_asked


def _token(settings: Settings, stores: Stores, stack: ExitStack) -> Scheme:
    uses = Uses(stores.credentials)
    stack.callback(uses.close)
    return TokenScheme(Credentials(stores.credentials, SystemClock()), uses, settings.token_cache_s)


#: What makes each scheme, by the name that the setting `auth` has for it.
SCHEMES: Final[Mapping[str, Callable[[Settings, Stores, ExitStack], Scheme]]] = {"none": _none, "token": _token}


def agent_terms(settings: Settings) -> AgentTerms:
    """Return on which terms agents are heard.

    Raises:
        SettingsInvalidError: the shared secret cannot be read, others may read it, or it is none.
    """
    secret_hash = ""
    if settings.enrolment_secret_file:
        secret_hash = hash_of(read_secret(Path(settings.enrolment_secret_file), "the enrolment secret"))
    return AgentTerms(settings.heartbeat_interval_s, secret_hash, settings.save_out_interval_s)
