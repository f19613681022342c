# SPDX-License-Identifier: Apache-2.0
"""How gunicorn serves the API: ``gunicorn -c python:cyborg_reconciler_api.gunicorn_conf``. Read by gunicorn.

Everything can be said otherwise on gunicorn's command line, or with ``GUNICORN_CMD_ARGS``. SIGHUP reloads gracefully:
new workers with new settings and certificates, while the old ones finish what they have begun.
"""

import gc
import os
import shutil
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

from cyborg_reconciler.adapters.relay import forget
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.logs import configuration
from cyborg_reconciler.meters import SHARED_FOLDER
from cyborg_reconciler.settings import read_settings
from cyborg_reconciler_api import reload as again
from cyborg_reconciler_api.connections import Connections
from cyborg_reconciler_api.cores import core_for

try:
    _settings = read_settings()
except SettingsInvalidError as exc:
    sys.exit(f"error: {exc}")

#: Objects that are made between two searches for cycles: answers leave next to none, and Python searches after 700.
MADE_BETWEEN_COLLECTIONS = 10_000

wsgi_app = "cyborg_reconciler_api.wsgi:create()"
bind = "127.0.0.1:6670"
worker_class = "cyborg_reconciler_api.gunicorn_worker.ProblemWorker"  # gthread, with our errors, and shared evenly
workers = 2
threads = _settings.threads
# A process whose main thread has not stirred for so long is ended. No request is: what the database does for it ends by
# the server's statement_timeout, and event streams end after 30 s by themselves.
timeout = 60
graceful_timeout = 30
keepalive = 5
# What a client may send before its body, which the API limits itself.
limit_request_line = 8190
limit_request_fields = 64
# Which proxies are believed the API judges itself (`trusted_proxies`); none may say here what the path is.
forwarded_allow_ips = ""
# Each worker opens its own connections to the database; what it imports is there already: see `on_starting`.
preload_app = False
# No file and no socket but what is asked for.
control_socket_disable = True
# The API writes a line for each request itself: gunicorn's own log of them stays off.
logconfig_dict = configuration(_settings.log_format)
# TLS, where the settings have a certificate; clients need one where they have a CA for those.
certfile = _settings.tls_cert or None
keyfile = _settings.tls_key or None
ca_certs = _settings.tls_client_ca or None
cert_reqs = ssl.CERT_REQUIRED if ca_certs else ssl.CERT_NONE

on_reload = again.read_again


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Read what is read anew with SIGHUP for the first time, and make what the workers count in together.

    The folder of their numbers is not in that of the state: its files are mapped into memory, and a full disk would end
    the workers.

    What the workers import is imported here once for all of them, who share its memory; nothing of it runs here.
    """
    again.read_first(server)
    import cyborg_reconciler_api.wsgi  # noqa: F401, PLC0415 - slow to import: what cannot be used is said before

    gc.freeze()
    gc.set_threshold(MADE_BETWEEN_COLLECTIONS)
    server.connections = Connections()
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # systemd's, where the unit asks for one
    server.metrics_folder = tempfile.mkdtemp(prefix="cyborg-reconciler-metrics-", dir=runtime or None)


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Choose the core that a new worker is to stay on, if any."""
    worker.core = None
    if again.current_settings().cores == "own":
        taken = [getattr(other, "core", None) for other in server.WORKERS.values()]
        worker.core = core_for(os.sched_getaffinity(0), taken, server.num_workers)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Tell a new worker where it runs and serves, and where to count, before it imports the library that does."""
    if worker.core is not None:
        try:
            os.sched_setaffinity(0, {worker.core})
        except OSError as exc:  # whoever confines us forbids it; it runs all the same
            worker.log.info("this process does not stay on core %d: %s", worker.core, exc)
    again.note_place(worker.sockets, stands_in=worker.age > server.num_workers)  # workers are numbered from 1
    worker.connections = server.connections
    os.environ[SHARED_FOLDER] = server.metrics_folder


def child_exit(server: Any, worker: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Forget what a worker that has ended was doing; what it had done still counts."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - gunicorn's own process counts nothing

    server.connections.forget(worker.age)
    mark_process_dead(worker.pid, server.metrics_folder)  # type: ignore[no-untyped-call]  # the library's own
    forget(Path(server.metrics_folder), worker.pid)


def on_exit(server: Any) -> None:  # noqa: ANN401 - gunicorn has no types
    """Remove the folder."""
    shutil.rmtree(server.metrics_folder, ignore_errors=True)


def ssl_context(config: again.Configuration, _default: object) -> ssl.SSLContext:
    """Return how connections are encrypted."""
    return again.context_of(config)
