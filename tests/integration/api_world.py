# SPDX-License-Identifier: Apache-2.0
"""Hosts that were looked at, behind the API: a real journal, a real tree of policies, and recorded facts."""

import hashlib
import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.database.folder import DATABASE_NAME
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.bootstrap import Stores, SystemClock, open_stores, sources_of
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.facts import Facts, decode_facts
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import qat_1, write_tree
from cyborg_reconciler.survey import Options, Survey, survey
from cyborg_reconciler.testing import FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.integration.api_support import Server, serving

POLICY = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: tree-sriov}
spec:
  host_selector: {groups: [crypto]}
  device_selector: {vendor_id: "8086", product_id: ["4940"]}
  sriov: {num_vfs: 4}
---
api_version: cyborg/v1
kind: Driver
metadata: {name: edu}
spec:
  device_type: PROCESSING
  kernel_module: edu
  match: [{vendor_id: "1234"}]
"""


def api_policy(name, **spec):
    """A policy as it is sent to the API."""
    return {
        "api_version": "cyborg/v1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": name},
        "spec": {"host_selector": {"groups": ["nobody"]}, "kernel_args": {"iommu": "pt"}, **spec},
    }


@dataclass
class World:
    """A server, its database, the tree beside it, and facts that hosts of a kind report."""

    server: Server
    stores: Stores
    tree: Path
    state: Path
    facts: Facts

    def __call__(self, method, path, body=None, **headers):
        return self.server(method, path, body, **headers)

    @property
    def declarations(self):
        return YamlDeclarations([self.tree], sources_of(self.stores.fleet))

    def facts_of(self, name, **changes):
        facts = msgspec.structs.replace(self.facts, hostname=name, fingerprint="", **changes)
        fingerprint = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
        return msgspec.structs.replace(facts, fingerprint=fingerprint)

    def look(self, *names, groups=("crypto",), at: datetime | None = None, **changes) -> Survey:
        """Look at the hosts called *names*, as the loop does; they report what they report *at* that time."""
        clock = FixedClock(at or datetime.now(UTC))
        observer = RecordedObserver({name: self.facts_of(name, **changes) for name in names}, clock=clock)
        hosts = [Host(name, frozenset(groups), {"rack": "r1"}) for name in names]
        ports = fake_ports(self.declarations.read(), hosts, observer)
        journal = self.stores.journal
        ports = replace(ports, journal=journal, declarations=self.declarations, clock=SystemClock())
        return survey(replace(ports, controller=journal.controller()), Options(), ignore_progress)

    def age(self, name: str, by: timedelta) -> None:
        """Have the facts of a host be older than they are, as they will be when nobody looks for so long."""
        with closing(sqlite3.connect(self.state / DATABASE_NAME)) as database, database:
            old = (datetime.now(UTC) - by).strftime("%Y-%m-%d %H:%M:%S.%f")
            assert database.execute("update facts set received_at = ? where host = ?", (old, name)).rowcount == 1

    def leave_policy(self, name: str, document: object) -> None:
        """Have a policy be kept that an older release took, and this one does not."""
        with closing(sqlite3.connect(self.state / DATABASE_NAME)) as database, database:
            now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            row = (name, json.dumps(document), 1, now, now)  # the columns in their order
            database.execute("insert into policies values (?, ?, ?, ?, ?)", row)


@contextmanager
def open_world(folder: Path):
    """Yield a world in *folder*."""
    write_tree(qat_1(), folder / "host")
    facts = decode_facts(json.dumps(gather(Tree(str(folder / "host")), connection="local")))
    tree = folder / "policies"
    tree.mkdir()
    (tree / "site.yml").write_text(POLICY, encoding="utf-8")
    state = folder / "state"
    with serving(state, "--auth", "none", "--threads", "16") as server, open_stores(Settings(state)) as stores:
        yield World(server, stores, tree, state, facts)


def pages(server, path, key):
    """Every thing of a list, page by page, and how many pages there were."""
    found, count = [], 0
    while path:
        page = server("GET", path).json()
        found += page[key]
        path = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        count += 1
    return found, count


class Follower:
    """One who follows a stream of events."""

    def __init__(self, world, path, last=None):
        headers = {"accept": "text/event-stream", **({} if last is None else {"last-event-id": str(last)})}
        self.answer = world.server.pool.request(
            "GET", world.server.url + path, headers=headers, preload_content=False, timeout=60
        )
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.answer.close()

    def read(self, count):
        """The next *count* events."""
        found = []
        for chunk in self.answer.stream(amt=None) if count else ():
            *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
            for block in blocks:
                lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
                if b"data" in lines:
                    event = msgspec.json.decode(lines[b"data"])
                    assert int(lines[b"id"]) == event["number"]
                    found.append(event)
            if len(found) >= count:
                break
        return found


@contextmanager
def declaring(world):
    """Yield what declares a policy over the API by its name and what its spec has; it is gone afterwards."""
    names = []

    def give(name, **spec):
        answer = world("POST", "/v1/policies", api_policy(name, **spec))
        assert answer.status == 201, answer.data
        names.append(name)
        return answer

    yield give
    for name in names:
        world("DELETE", f"/v1/policies/{name}")


def paths_of(found):
    """Return what a problem is about."""
    return {one.path for one in found.errors}


def plan_for(world, *hosts, **body):
    """Ask for a plan, and return the answer."""
    return world("POST", "/v1/plans", {"hosts": list(hosts), **body})
