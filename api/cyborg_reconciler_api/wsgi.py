# SPDX-License-Identifier: Apache-2.0
"""The application that gunicorn serves: ``gunicorn 'cyborg_reconciler_api.wsgi:create()'``.

Reads the settings of the process, opens the stores, and puts the API together.
"""

import atexit
from contextlib import ExitStack

import falcon

from cyborg_reconciler.bootstrap import SystemClock, open_meter, open_stores
from cyborg_reconciler.conductor.accelerators import Accelerators
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import read_settings
from cyborg_reconciler_api.access import nobody_is_asked
from cyborg_reconciler_api.app import create_app
from cyborg_reconciler_api.services import Services


def create() -> falcon.App[falcon.Request, falcon.Response]:
    """Return the API over the stores of this process's settings; they are closed when the process ends.

    Raises:
        ReconcilerError: the settings or the database cannot be used.
    """
    settings = read_settings()
    if settings.auth != "none":
        raise SettingsInvalidError(wanted="auth none", found=settings.auth)
    stack = ExitStack()
    atexit.register(stack.close)
    _journal, store = stack.enter_context(open_stores(settings))
    meter = open_meter(store)
    return create_app(
        Services(
            authenticate=nobody_is_asked,
            accelerators=Accelerators(store, SystemClock()),
            accelerator_store=store,
            check_database=store.check,
            meter=meter,
            exposition=meter.exposition,
            open_paths=frozenset({"/metrics"} if settings.metrics_access == "anybody" else ()),
        )
    )
