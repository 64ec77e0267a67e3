"""Tasks, what they hold of the quota, and what was given back for calls that were dropped.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PARTS = {
    "ix_tasks_waiting": (["user_id", "created_at", "id"], "status = 'pending'"),
    "ix_tasks_running": (["lease_until"], "status = 'processing'"),
    "ix_tasks_to_close": (["completed_at"], "completed_at IS NOT NULL AND closed_at IS NULL"),
    "ix_tasks_with_references": (["completed_at"], "reference_count > 0"),
}


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("results", sa.Text, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("client_job_id", sa.String),
        sa.Column("key_id", sa.String),
        sa.Column("own_key", sa.Text),
        sa.Column("reservation", sa.Text),
        sa.Column("reference_count", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("cancel_requested_at", sa.BigInteger),
        sa.Column("queued_at", sa.BigInteger),
        sa.Column("time_limit_ms", sa.BigInteger, nullable=False),
        sa.Column("callback_url", sa.Text),
        sa.Column("webhook_secret", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("closed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )
    op.create_index("ix_tasks_user_id_created_at_id", "tasks", ["user_id", "created_at", "id"])
    for name, (columns, condition) in PARTS.items():
        only = sa.text(condition)
        op.create_index(name, "tasks", columns, sqlite_where=only, postgresql_where=only)
    _create_holds()


def _create_holds() -> None:
    op.create_table(
        "quota_holds",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("guest_address", sa.String),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("day", sa.String, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("service_key_id", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_quota_holds"),
    )
    op.create_index("ix_quota_holds_day", "quota_holds", ["day"])
    op.create_table(
        "dropped_calls",
        sa.Column("reservation_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("day", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("reservation_id", name="pk_dropped_calls"),
    )
    op.create_index("ix_dropped_calls_user_id_day", "dropped_calls", ["user_id", "day"])


def downgrade() -> None:
    for table in ("dropped_calls", "quota_holds", "tasks"):
        op.drop_table(table)
