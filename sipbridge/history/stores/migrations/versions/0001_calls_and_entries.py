"""Calls, and what is known of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("record", sa.Text, primary_key=True),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("tenant_version", sa.BigInteger, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("to", sa.Text, nullable=False),
        sa.Column("trunk", sa.Text),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("answered_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("ended", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("cost_usd", sa.Double),
        sa.Column("report", JSON),
    )
    op.create_index("calls_began_at", "calls", ["began_at"])
    op.create_index("calls_tenant_began_at", "calls", ["tenant", "began_at"])
    op.create_index("calls_call_id", "calls", ["call_id"], postgresql_using="hash")
    op.create_index("calls_caller", "calls", ["caller"], postgresql_using="hash")
    op.create_index("calls_to", "calls", ["to"], postgresql_using="hash")
    op.create_index("calls_record_pattern", "calls", ["record"], postgresql_ops={"record": "text_pattern_ops"})
    op.create_table(
        "entries",
        sa.Column("record", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("entries")
    op.drop_table("calls")
