# SPDX-License-Identifier: Apache-2.0
"""How gunicorn serves the API: ``gunicorn -c python:cyborg_reconciler_api.gunicorn_conf``. Read by gunicorn.

Everything can be said otherwise on gunicorn's command line, or with ``GUNICORN_CMD_ARGS``. SIGHUP reloads gracefully:
new workers with new settings and certificates, while the old ones finish what they have begun.
"""

import ssl
import sys

from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import read_settings
from cyborg_reconciler_api import reload as again

try:
    _settings = read_settings()
except SettingsInvalidError as exc:
    sys.exit(f"error: {exc}")

wsgi_app = "cyborg_reconciler_api.wsgi:create()"
bind = "127.0.0.1:6670"
worker_class = "gthread"
workers = 2
threads = _settings.threads
# A request that takes longer has hung; event streams end after 30 s by themselves.
timeout = 60
graceful_timeout = 30
keepalive = 5
# What a client may send before its body, which the API limits itself.
limit_request_line = 8190
limit_request_fields = 64
# Each worker opens its own connections to the database.
preload_app = False
# No file and no socket but what is asked for.
control_socket_disable = True
# TLS, where the settings have a certificate; clients need one where they have a CA for those.
certfile = _settings.tls_cert or None
keyfile = _settings.tls_key or None
ca_certs = _settings.tls_client_ca or None
cert_reqs = ssl.CERT_REQUIRED if ca_certs else ssl.CERT_NONE

on_starting = again.read_first
on_reload = again.read_again


def ssl_context(config: again.Configuration, _default: object) -> ssl.SSLContext:
    """Return how connections are encrypted."""
    return again.context_of(config)
