# SPDX-License-Identifier: Apache-2.0
"""The least that an API can do, on the same stack: what the others are compared with. Served by gunicorn."""

import falcon


class Hello:
    """Says hello."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Say it, as JSON."""
        response.content_type = "application/json"
        response.data = b'{"hello": "world"}'


def create() -> falcon.App:
    """Return the application."""
    app = falcon.App()
    app.add_route("/hello", Hello())
    return app
