# SPDX-License-Identifier: Apache-2.0
"""What agents have of the API: look-up, hello, check-in. No user has these, and agents have nothing else."""

from typing import Final

from cyborg_reconciler.conductor.agents import Enroller
from cyborg_reconciler.documents.rest.agent import AgentHost, CheckedIn, CheckInBody, HelloGiven, LookupGiven
from cyborg_reconciler.stores.agents import Agent
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

BAD_BODY: Final = "the body is not JSON, or not of this shape"
UNKNOWN: Final = "the token is not known, or was revoked"
HOST: Final = {"host": "compute-7", "uuid": "5d2b64a0-6a3e-4d0f-9c1b-2f6f4a2d9d11", "heartbeat_interval": 60}


def _by_enrolment(services: Services, token: str, peer: str) -> Enroller:
    services.limits.look_up(peer)
    return services.agents.enroller(token)


def _by_token(services: Services, token: str, peer: str) -> Agent:
    del peer
    agent = services.agents.speaker(token)
    services.limits.call(f"the agent of {agent.host}")
    return agent


@operation(
    "Look up the host that an agent is on",
    access="agent",
    judge=_by_enrolment,
    request=LookupGiven,
    answer=AgentHost,
    further={201: "the host is a new one, registered by the shared secret"},
    errors={
        400: BAD_BODY,
        401: "the enrolment token is not known, or has expired",
        403: "the enrolment token is for another host; or the shared secret came from a host that is known already",
        404: "no host is known by the inventory, and the shared secret was not shown",
        409: "the inventory is that of two hosts, and the token does not say which of them it is",
    },
    sample=Sample(
        request={"agent_version": "0.1.0", "inventory": {"hostname": "compute-7", "macs": ["52:54:00:12:34:56"]}},
        answer={**HOST, "token": "cya_…"},
    ),
)
def look_up(services: Services, call: Call) -> Reply:
    """Say which host the agent is on, by its inventory: system uuid, then MACs, then host name.

    The first time, the answer has the token that speaks for this host from now on. An enrolment token is for one host;
    the shared secret, where there is one, registers unknown hosts, which wait for approval. Whoever shows the token of
    a host, and is called so or known as that host, is it, also where others say that they are known by the same: then
    an event `IdentityContested` names these.
    """
    found, is_new = services.agents.look_up(call.judged, call.body)
    return Reply(found.model_dump_json(exclude_none=True), status=201 if is_new else 200)


@operation(
    "Say that an agent is ready",
    access="agent",
    judge=_by_token,
    request=HelloGiven,
    answer=AgentHost,
    errors={400: BAD_BODY, 401: UNKNOWN, 403: "the host registered itself and waits for approval"},
    sample=Sample(request={"status": "READY", "endpoint": "compute-7:1337"}, answer=HOST),
)
def hello(services: Services, call: Call) -> Reply:
    """Say that the agent is installed and ready. Its endpoint is noted; only configured ones are called."""
    return Reply(services.agents.hello(call.judged, call.body).model_dump_json(exclude_none=True))


@operation(
    "Check in",
    access="agent",
    judge=_by_token,
    success=202,
    request=CheckInBody(),
    answer=CheckedIn,
    errors={
        400: f"{BAD_BODY}; or its facts cannot be read",
        401: UNKNOWN,
        403: "the token is another host's; or the host registered itself and waits for approval",
        404: "there is no such host",
        409: "no facts of this fingerprint are kept: send them in full; or it is older than what is kept",
    },
    sample=Sample(
        request={
            "agent_version": "0.1.0",
            "boot_id": "8f0f3f53-6f0c-4d6e-9d3a-0f4a2a4f9a10",
            "epoch": 1767614400,
            "sequence": 2,
            "fingerprint": "sha256:…",
        },
        answer={"heartbeat_interval": 60, "generation": 3, "durable": False, "commands": []},
    ),
)
def check_in(services: Services, call: Call) -> Reply:
    """Say how the host is: its facts where they changed, and else their fingerprint alone.

    Facts are on disk before this is answered; that nothing changed is written with many others, and says
    `durable: false`.
    """
    taken = services.agents.check_in(call.judged, call.ids["host"], call.body)
    return Reply(taken.model_dump_json())
