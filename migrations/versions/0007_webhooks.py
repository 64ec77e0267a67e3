"""Webhooks that are on their way, with what became of each try.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("next_try_at", sa.BigInteger),
        sa.Column("first_at", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Text, nullable=False),
        sa.Column("claim", sa.String),
        sa.Column("lease_until", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    to_try = sa.text("next_try_at IS NOT NULL")
    op.create_index(
        "ix_webhook_deliveries_to_try",
        "webhook_deliveries",
        ["next_try_at"],
        sqlite_where=to_try,
        postgresql_where=to_try,
    )
    op.create_index("ix_webhook_deliveries_task_id_round", "webhook_deliveries", ["task_id", "round"])
    op.create_index("ix_webhook_deliveries_user_id", "webhook_deliveries", ["user_id"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
