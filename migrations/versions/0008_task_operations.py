"""What operators and the retention run look for in tasks: why they failed, how many wait, when a guest's go.

Tasks that had failed before have no code of their error in the new column.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PARTS = {
    "ix_tasks_queued": (["queued_at", "created_at"], "status = 'pending'"),
    "ix_tasks_failed": (["completed_at", "error_code"], "status = 'failed'"),
    "ix_tasks_expiring": (["expires_at"], "expires_at IS NOT NULL"),
}


def upgrade() -> None:
    op.add_column("tasks", sa.Column("error_code", sa.String))
    op.add_column("tasks", sa.Column("expires_at", sa.BigInteger))
    op.create_index("ix_tasks_created_at_id", "tasks", ["created_at", "id"])
    for name, (columns, condition) in PARTS.items():
        only = sa.text(condition)
        op.create_index(name, "tasks", columns, sqlite_where=only, postgresql_where=only)


def downgrade() -> None:
    for name in (*PARTS, "ix_tasks_created_at_id"):
        op.drop_index(name, "tasks")
    op.drop_column("tasks", "expires_at")
    op.drop_column("tasks", "error_code")
