"""Service keys, and which of them a charge was made with.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("last_characters", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("scopes", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("daily_points", sa.Integer),
        sa.Column("last_used_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_service_keys"),
        sa.UniqueConstraint("hash", name="uq_service_keys_hash"),
    )
    op.create_index("ix_service_keys_user_id", "service_keys", ["user_id"])
    op.add_column("charges", sa.Column("service_key_id", sa.String))


def downgrade() -> None:
    op.drop_column("charges", "service_key_id")
    op.drop_index("ix_service_keys_user_id", "service_keys")
    op.drop_table("service_keys")
