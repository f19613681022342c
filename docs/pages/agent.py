# SPDX-License-Identifier: Apache-2.0
"""What can be set for an agent, and what does it answer? The page of the agent. Called by `generate`. Pure."""

import inspect
from http import HTTPStatus

from cyborg_reconciler.agent.internal import ROUTES, Resources, Route
from cyborg_reconciler.agent.settings import FILE, PREFIX, AgentSettings
from docs.pages.markdown import code, page, table
from docs.pages.settings import settings_table

INTRODUCTION = f"""
The agent runs on a compute host: [how to](../how-to/run-the-agent.md). Its settings come from `{FILE}`, or the
file that `--config` or `{PREFIX}CONFIG` names, then from the environment. A name that is not known, and a value that
cannot be used, is an error. Secrets are files that the agent alone can read; a setting says which.
"""
ANSWERS = """
What the agent answers on its own port. The conductor shows this host's credential as `Authorization: Bearer …`; drivers
register from the same host. Errors are `application/problem+json`, and every answer has an `X-Openstack-Request-Id`.
Unknown paths are 401 to whoever shows no credential, and 404 to the conductor; a method that a path does not have
is 405.
"""
BODIES = """
A hello is `{"status": "READY", "endpoint": "localhost:PORT", "type": "CRYPTO"}`, where `endpoint` is loopback; a `name`
may be added, and is the type in small letters where it is not. The agent then calls the driver's own `POST /discovery`
and `GET /hardware` there.

`POST /discovery` and `POST /drivers/{name}/discovery` may have a body, which names all the devices that drivers are to
set up: `{"ready": [{"driver": "dummy", "address": "dummy:0", "uuid": "…"}]}`. Without one nothing is said of that, and
what was said last still holds. A driver that registered is told the uuids of its own: `{"ready": ["…"]}`.

`GET /hardware` answers `{"hardware": […], "unread": […]}`: each device has `uuid`, `acc_specs` (`remote`, `num`,
`device_type`, `acc_type`, `vendor_id`, `product_id`, `acc_capability`) and `acc_status`. For a PCI function,
`setup_required` says that it is an accelerator, and that no kernel driver is bound to it (for a VF: to its PF) and
nobody keeps drivers from it by an override; `reboot_required`, that a kernel argument, or the initial RAM disk, is
configured for the next boot and does not run. For other devices their driver says both. One that registered may add an
`address` to a device, and a `health` to its `acc_status` ([as here](internal-api.md#hardware)). `unread` says what
could not be read, and why, and which of its own files the agent cannot write.
"""


def render() -> str:
    """Return the page."""
    calls = table(["call", "by", "what it does", "success", "refusals"], map(row, ROUTES))
    settings = settings_table(AgentSettings, PREFIX)
    return page("The agent", INTRODUCTION, "## Settings", settings, "## Internal API", ANSWERS, calls, BODIES)


def row(route: Route) -> tuple[str, ...]:
    """Return what is to be said of one route."""
    answer = getattr(Resources, f"on_{route.method.lower()}_{route.noun}")
    refusals = "; ".join(f"{status} {cause}" for status, cause in sorted(route.causes.items()))
    success = f"{route.success} {HTTPStatus(route.success).phrase}"
    return code(f"{route.method} {route.path}"), route.asked_by, inspect.getdoc(answer) or "", success, refusals
