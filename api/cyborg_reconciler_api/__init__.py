# SPDX-License-Identifier: Apache-2.0
"""The REST API: `create_app` makes a WSGI application out of the services that it is given."""

from cyborg_reconciler_api.app import create_app
from cyborg_reconciler_api.services import Services

__all__ = ["Services", "create_app"]
