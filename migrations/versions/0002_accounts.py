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

NEW_COLUMNS = {
    "github_id": sa.BigInteger,
    "sign_in_email": sa.String,
    "password_hash": sa.String,
    "blocked_at": sa.BigInteger,
    "left_at": sa.BigInteger,
    "merged_into": sa.String,
}
UNIQUE = ("github_id", "sign_in_email")


def upgrade() -> None:
    for name, kind in NEW_COLUMNS.items():
        op.add_column("users", sa.Column(name, kind))
    op.add_column("users", sa.Column("is_granted_admin", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in UNIQUE:
        op.create_index(f"uq_users_{name}", "users", [name], unique=True)
    op.create_index("ix_users_created_at", "users", ["created_at", "id"])
    op.create_index("ix_users_left_at", "users", ["left_at"])
    op.create_index("ix_charges_user_id", "charges", ["user_id"])
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
    op.drop_index("ix_charges_user_id", "charges")
    op.drop_index("ix_users_left_at", "users")
    op.drop_index("ix_users_created_at", "users")
    for name in UNIQUE:
        op.drop_index(f"uq_users_{name}", "users")
    for name in ("is_granted_admin", *NEW_COLUMNS):
        op.drop_column("users", name)
