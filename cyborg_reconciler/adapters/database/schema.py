# SPDX-License-Identifier: Apache-2.0
# long: one place says what all the tables are
"""What the journal's tables are. Read by the queries beside it; `migrations` brings a database there. No I/O.

Written for PostgreSQL as much as for SQLite: documents are JSON as text, times are UTC, names are never quoted.
"""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    and_,
    text,
)

#: The revision that these tables are. A database of another one is migrated, or refused when it is newer.
REVISION: Final = "v0011"


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, for databases that forget the zone as for those that keep it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  the base class asks for it
        """Return the time as it is stored."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  the base class asks for it
        """Return the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: Numbers that the database gives. SQLite does that for its own kind of integer alone.
NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

#: One row: who writes here, and how often it has started.
controllers = Table(
    "controllers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("fencing_token", BigInteger, nullable=False),
)

#: A host ever seen: where it stands (as `record_hosts` was told), and which its present generation is.
hosts = Table(
    "hosts",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("generation", Integer, nullable=False, default=0),
    Column("digest", String(255), nullable=False, default=""),
    Column("sync", String(32), nullable=False, default="Unknown"),
    Column("health", String(32), nullable=False, default="Unknown"),
    Column("phase", String(32), nullable=False, default="Idle"),
    Column("failed_in", String(32), nullable=False, default=""),
    Column("reason", String(64), nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    Column("fingerprint", String(255), nullable=False, default=""),
    Column("observed_at", UtcDateTime),
    Column("changed_at", UtcDateTime),
    Column("drivers", Text, nullable=False, server_default=text("''")),
)

#: The conditions of a host, apart from its row: that is written at every look, and these only when they change.
conditions = Table(
    "conditions",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True),
    Column("document", Text, nullable=False),
)

#: What is remembered of a host under each state that was desired of it, by the digest of that state.
histories = Table(
    "histories",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("digest", String(255), nullable=False),
    Column("was_synced", Boolean, nullable=False, default=False),
    Column("failures", Integer, nullable=False, default=0),
    PrimaryKeyConstraint("host", "digest"),
)

#: The newest facts of a host; *received_at* moves when they come again unchanged. *units*: the digest of the hardware
#: that they tell of, as it was entered last.
facts = Table(
    "facts",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True),
    Column("fingerprint", String(255), nullable=False),
    Column("document", Text, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("units", String(64)),
)

#: Each state that the tree was in, by its digest. *document*: what was declared otherwise than in the *previous* one.
declarations = Table(
    "declarations",
    metadata,
    Column("digest", String(255), primary_key=True),
    Column("document", Text, nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("previous", String(255)),
)

plans = Table(
    "plans",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("document", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)

#: *fencing_token* is that of the process that began the run: another process's open run is one that was interrupted.
#: *message*: why a run that was asked for waits, or did not come out well; *request_id*: in which request.
runs = Table(
    "runs",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("plan_uuid", ForeignKey("plans.uuid"), nullable=False, index=True),
    Column("fencing_token", BigInteger, nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("message", Text, nullable=False, server_default=text("''")),
    Column("request_id", String(64), nullable=False, server_default=text("''")),
)

#: What came out for a host of a run; *document* is empty until it has.
outcomes = Table(
    "outcomes",
    metadata,
    Column("run_uuid", ForeignKey("runs.uuid", ondelete="CASCADE"), nullable=False),
    Column("host", String(255), nullable=False),
    Column("status", String(32), nullable=False),
    Column("document", Text, nullable=False, default=""),
    Column("ended_at", UtcDateTime),
    PrimaryKeyConstraint("run_uuid", "host"),
)

#: Reboots that were about to be asked for, and from which boot; those under a desired state go once it is verified.
reboots = Table(
    "reboots",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("digest", String(255), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Index(None, "host", "digest"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("host", String(255), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("digest", String(255), nullable=False),
    Column("approved_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("host", "generation", "digest"),
)

#: The audit trail. Rows are added, and never changed; *run* is the uuid of the one that the event is of.
events = Table(
    "events",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("host", String(255), nullable=False, default="", index=True),
    Column("message", Text, nullable=False, default=""),
    Column("data", Text),
    Column("run", String(36), index=True),
    Index(None, "kind"),
    Index(None, "at"),
    Index(None, "host", "kind", "number"),
)

#: What the public API offers. The first column and the names up to *remotable* are those of Cyborg's own specification.
#: *document* is what the API gives of the row, made when the row is written: it is read far more often.
accelerators = Table(
    "accelerators",
    metadata,
    Column("accelerator_id", NUMBER, primary_key=True, autoincrement=True),
    Column("device_type", String(32), nullable=False),
    Column("acc_type", String(64), nullable=False),
    Column("acc_capability", Text, nullable=False),
    Column("vendor_id", String(4)),
    Column("product_id", String(4)),
    Column("remotable", Integer, nullable=False),
    Column("uuid", String(36), nullable=False, unique=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("host", String(255)),
    Column("address", String(64)),
    Column("parent", String(36)),
    Column("origin", String(16), nullable=False),
    Column("claimed", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("num", Integer, nullable=False),
    Column("overlay", Text, nullable=False),
    Column("driver", String(255)),
    Column("state", String(16), nullable=False),
    Column("desired_state", String(16), nullable=False),
    Column("health", String(16), nullable=False),
    Column("seen_health", String(16), nullable=False, server_default=text("''")),
    Column("told_health", String(16), nullable=False, server_default=text("'Healthy'")),
    Column("setup_required", Boolean, nullable=False),
    Column("reboot_required", Boolean, nullable=False),
    Column("attach_info", Text),
    Column("instance_uuid", String(36)),
    Column("attached_host", String(255)),
    Column("project_id", String(255)),
    Column("attach_status", String(16)),
    Column("attached_at", UtcDateTime),
    Column("resource_provider_uuid", String(36)),
    Column("present", Boolean, nullable=False),
    Column("state_policy", Text, nullable=False),
    Column("binding_policy", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("document", Text, nullable=False),
    Index(None, "host", "address"),
    Index(None, "state", "uuid"),
    Index(None, "device_type", "uuid"),
    Index(None, "host", "driver"),
    Index(None, "instance_uuid"),
    Index(None, "attached_host"),
)

#: Who has how much of which accelerator; *version* is that of all that the consumer has.
allocations = Table(
    "allocations",
    metadata,
    Column("consumer", String(36), nullable=False),
    Column("accelerator", ForeignKey("accelerators.uuid", ondelete="CASCADE"), nullable=False, index=True),
    Column("amount", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("version", BigInteger),
    PrimaryKeyConstraint("consumer", "accelerator"),
)

#: By what hosts are known: their system uuid and the addresses of their NICs, as their newest facts have them.
identities = Table(
    "identities",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", String(64), nullable=False),
    PrimaryKeyConstraint("host", "kind", "value"),
    Index(None, "kind", "value"),
)

#: The agents of hosts. Tokens are hashed; *fingerprint* is that of the facts that the agent last told in full, and
#: *drivers* a digest of what it last told of its drivers; *silent_changed_at* is when *silent* became what it is.
agents = Table(
    "agents",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True),
    Column("token_hash", String(64), nullable=False, index=True),
    Column("next_token_hash", String(64), nullable=False, index=True),
    Column("approved", Boolean, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("fingerprint", String(255), nullable=False),
    Column("boot_id", String(255), nullable=False),
    Column("endpoint", String(255), nullable=False),
    Column("agent_version", String(255), nullable=False),
    Column("last_seen_at", UtcDateTime, index=True),
    Column("silent", Boolean, nullable=False),
    Column("silent_changed_at", UtcDateTime),
    Column("drivers", Text, nullable=False, server_default=text("''")),
)

#: Holds for the agents for which `Agent.may_speak` does.
MAY_SPEAK: Final = and_(agents.c.token_hash != "", agents.c.approved)

#: The drivers that agents have, as they told last.
agent_drivers = Table(
    "agent_drivers",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("type", String(255), nullable=False),
    Column("status", String(255), nullable=False),
    Column("endpoint", String(255), nullable=False),
    PrimaryKeyConstraint("host", "name"),
)

#: The right to look up one host, once.
enrolments = Table(
    "enrolments",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("host", String(255), nullable=False, index=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime),
)

#: What agents are to do; a row goes when its agent has said that it is done. No number is ever given twice: agents
#: know by it what they have carried out.
commands = Table(
    "commands",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("command", String(32), nullable=False),
    Column("driver", String(255)),
    Column("asked_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)

#: The hosts of the inventory, as the last look at it found them. Groups and labels are JSON; *agent_endpoint* is where
#: the conductor may call the agent.
inventory = Table(
    "inventory",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("groups", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("agent_endpoint", Text),
)

#: The policies that the API was given, as JSON. *version* is the number of the event that tells of the last change.
policies = Table(
    "policies",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("document", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

#: What the tree declared when it was last read, a row a document; *lines* says where in *file* its fields stand.
declared_documents = Table(
    "declared_documents",
    metadata,
    Column("kind", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("file", Text, nullable=False),
    Column("lines", Text, nullable=False),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
)

#: One row at most: sha256 over what is declared, so that it is written when it changes and not before; the digest of
#: the state that the *tree* is in, and the drivers that there are.
declared_stamp = Table(
    "declared_stamp",
    metadata,
    Column("stamp", String(64), primary_key=True),
    Column("digest", String(255), nullable=False),
    Column("prunes", Boolean, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("tree", String(64), nullable=False, server_default=text("''")),
    Column("catalogue", Text, nullable=False, server_default=text("'[]'")),
)

#: The plans that the API was asked for; *document* is what it gives of them.
proposals = Table(
    "proposals",
    metadata,
    Column("plan_uuid", ForeignKey("plans.uuid", ondelete="CASCADE"), primary_key=True),
    Column("allow_reboot", Boolean, nullable=False),
    Column("document", Text, nullable=False),
)

#: Runs that somebody wants to end before their next wave.
cancellations = Table(
    "cancellations",
    metadata,
    Column("run_uuid", ForeignKey("runs.uuid", ondelete="CASCADE"), primary_key=True),
    Column("requested_at", UtcDateTime, nullable=False),
    Column("requested_by", String(255), nullable=False),
)

#: One driver on one host, of every accelerator that ever had both.
backends = Table(
    "backends",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("driver", String(255), nullable=False),
    Index(None, "host", "driver", unique=True),
)

#: Every physical device that was ever found on a host. *document* is what the API gives of it; *driver* has found it,
#: where no facts tell of it.
hardware = Table(
    "hardware",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("address", String(64), nullable=False),
    Column("ids", String(64), nullable=False),
    Column("serial", Text),
    Column("present", Boolean, nullable=False),
    Column("is_accelerator", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("driver", String(64)),
    Index(None, "host", "address"),
)

#: The users' tokens: what each opens, under the SHA-256 of it. That is how they are found, hence the index.
credentials = Table(
    "credentials",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("project_id", String(255)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

#: The hosts that are to be looked at out of turn, those too that nobody has seen yet. *ticket* rises each time a host
#: is enqueued; *attempts*: how often it was put off since it was last served.
queue = Table(
    "queue",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("reason", String(64), nullable=False),
    Column("ticket", BigInteger, nullable=False),
    Column("enqueued_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", UtcDateTime, nullable=False, index=True),
)

#: Who does what only one process may do. *token* rises each time a lease is taken; *holder* is empty once it was given
#: back. *expires_at* is for people: whether it ran out is told by whether it is renewed.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

#: What serves here: the processes of the control plane, each of which says so itself and counts as down at *due_at*
#: unless it has said so again; and agents, of which their own table knows when they were heard.
services = Table(
    "services",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("type", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", String(255), nullable=False),
    Column("message", Text, nullable=False),
    Column("started_at", UtcDateTime),
    Column("last_seen_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Index(None, "host", "type", "name", unique=True),
)

#: What the worker has done: how many passes of a kind came out so, how long they took, when the last one ended.
passes = Table(
    "passes",
    metadata,
    Column("kind", String(16), nullable=False),
    Column("result", String(16), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("kind", "result"),
)

#: What is declared over the API of drivers on hosts, each with the run that was asked for with it, and with what was
#: declared before: that is so again when the run is cancelled.
host_drivers = Table(
    "host_drivers",
    metadata,
    Column("host", String(255), nullable=False),
    Column("driver", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("version", String(128)),
    Column("run", String(36), nullable=False),
    Column("is_open", Boolean, nullable=False, index=True),
    Column("declared_by", String(255), nullable=False),
    Column("declared_at", UtcDateTime, nullable=False),
    Column("state_before", String(16)),
    Column("version_before", String(128)),
    PrimaryKeyConstraint("host", "driver"),
)
