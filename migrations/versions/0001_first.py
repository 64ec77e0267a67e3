"""Users, images, the charge ledger.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SHOWN = sa.text("listed IS 1 AND deleted_at IS NULL")
SHOWN_POSTGRESQL = sa.text("listed IS true AND deleted_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("folder_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("login", sa.String),
        sa.Column("name", sa.String),
        sa.Column("email", sa.String),
        sa.Column("avatar_url", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("folder_id", name="uq_users_folder_id"),
    )
    op.create_table(
        "charges",
        sa.Column("image_id", sa.String, nullable=False),
        sa.Column("reservation_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("guest_address", sa.String),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("points", sa.Integer, nullable=False),
        sa.Column("day", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("image_id", name="pk_charges"),
    )
    op.create_index("ix_charges_reservation_id", "charges", ["reservation_id"])
    op.create_index("ix_charges_day_user_id", "charges", ["day", "user_id"])
    _create_images()


def _create_images() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("folder_id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("aspect_ratio", sa.String, nullable=False),
        sa.Column("resolution", sa.String, nullable=False),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("duration", sa.Float, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mime_type", sa.String, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("listed", sa.Boolean, nullable=False),
        sa.Column("negative_prompt", sa.Text),
        sa.Column("seed", sa.BigInteger),
        sa.Column("safety_level", sa.String),
        sa.Column("session_id", sa.String),
        sa.Column("chat_index", sa.Integer),
        sa.Column("task_id", sa.String),
        sa.Column("text_response", sa.Text),
        sa.Column("thinking", sa.Text),
        sa.Column("search_sources", sa.Text),
        sa.Column("is_favorite", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("deleted_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("key", name="uq_images_key"),
    )
    op.create_index(
        "ix_images_history",
        "images",
        ["user_id", "created_at", "id"],
        sqlite_where=SHOWN,
        postgresql_where=SHOWN_POSTGRESQL,
    )
    for column in ("expires_at", "deleted_at"):
        present = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"ix_images_{column}", "images", [column], sqlite_where=present, postgresql_where=present)


def downgrade() -> None:
    for table in ("images", "charges", "users"):
        op.drop_table(table)
