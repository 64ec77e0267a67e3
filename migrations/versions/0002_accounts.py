"""GitHub and local accounts, who is blocked, who has left; pinned admins; what an installation did once.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEW_COLUMNS = (
    sa.Column("github_id", sa.BigInteger),
    sa.Column("sign_in_email", sa.String),
    sa.Column("password_hash", sa.String),
    sa.Column("is_granted_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("blocked_at", sa.BigInteger),
    sa.Column("left_at", sa.BigInteger),
    sa.Column("merged_into", sa.String),
)
UNIQUE = ("github_id", "sign_in_email")


def upgrade() -> None:
    for column in NEW_COLUMNS:
        op.add_column("users", column.copy())
    for name in UNIQUE:
        op.create_index(f"uq_users_{name}", "users", [name], unique=True)
    op.create_index("ix_users_created_at", "users", ["created_at", "id"])
    op.create_index("ix_users_left_at", "users", ["left_at"])
    op.create_table(
        "admin_logins",
        sa.Column("login", sa.String, nullable=False),
        sa.Column("github_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("login", name="pk_admin_logins"),
    )
    op.create_table(
        "milestones",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("reached_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_milestones"),
    )


def downgrade() -> None:
    op.drop_table("milestones")
    op.drop_table("admin_logins")
    op.drop_index("ix_users_left_at", "users")
    op.drop_index("ix_users_created_at", "users")
    for name in UNIQUE:
        op.drop_index(f"uq_users_{name}", "users")
    for column in reversed(NEW_COLUMNS):
        op.drop_column("users", column.name)
