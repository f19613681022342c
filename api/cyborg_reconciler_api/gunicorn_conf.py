# SPDX-License-Identifier: Apache-2.0
"""How gunicorn serves the API: ``gunicorn -c python:cyborg_reconciler_api.gunicorn_conf``. Read by gunicorn.

Everything can be said otherwise on gunicorn's command line, or with ``GUNICORN_CMD_ARGS``. SIGHUP reloads gracefully:
new workers with new settings and certificates, while the old ones finish what they have begun.
"""

import os
from typing import Any

from cyborg_reconciler.settings import PREFIX

wsgi_app = "cyborg_reconciler_api.wsgi:create()"
bind = "127.0.0.1:8778"
worker_class = "gthread"
workers = 2
threads = 4
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


def post_fork(_server: object, worker: Any) -> None:  # noqa: ANN401 - gunicorn's own, which has no types
    """Tell the application how many threads its process has, whoever said so."""
    os.environ[f"{PREFIX}THREADS"] = str(worker.cfg.threads)
