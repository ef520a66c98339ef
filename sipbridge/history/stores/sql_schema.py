"""The tables of a history in a database server, as SQLAlchemy knows them.

How a database gets them, and from which version to which, is in `migrations/`; a test holds the two against each other.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSON

metadata = MetaData()

calls = Table(
    "calls",
    metadata,
    Column("record", Text, primary_key=True),
    Column("call_id", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("tenant_version", BigInteger, nullable=False),
    Column("direction", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("trunk", Text),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("answered_at", Double),
    Column("ended_at", Double),
    Column("ended", Text),
    Column("outcome", Text),
    Column("detail", Text, nullable=False),
    Column("seconds", Double),
    Column("cost_usd", Double),
    Column("report", JSON(none_as_null=True)),
    Index("calls_began_at", "began_at"),
    Index("calls_tenant_began_at", "tenant", "began_at"),
    # What a stranger chose may be longer than an ordered index takes.
    Index("calls_call_id", "call_id", postgresql_using="hash"),
    Index("calls_caller", "caller", postgresql_using="hash"),
    Index("calls_to", "to", postgresql_using="hash"),
    Index("calls_record_pattern", "record", postgresql_ops={"record": "text_pattern_ops"}),
)
"""One row for each call, as `CallRow` has it."""

entries = Table(
    "entries",
    metadata,
    Column("record", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", JSON(none_as_null=True), nullable=False),
)
"""What is known of it. Not JSONB, which cannot keep everything that people and machines say: a NUL is no character to
it, nor is half of a surrogate pair."""
