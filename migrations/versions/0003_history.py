"""Histories that are being cleared; indices of the favorites, and of what no list shows.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FAVORITE = sa.text("listed IS 1 AND deleted_at IS NULL AND is_favorite IS 1")
FAVORITE_POSTGRESQL = sa.text("listed IS true AND deleted_at IS NULL AND is_favorite IS true")
HIDDEN = sa.text("listed IS 0 OR deleted_at IS NOT NULL")
HIDDEN_POSTGRESQL = sa.text("listed IS false OR deleted_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "clearances",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clearances"),
    )
    op.create_index(
        "ix_images_favorites",
        "images",
        ["user_id", "created_at", "id"],
        sqlite_where=FAVORITE,
        postgresql_where=FAVORITE_POSTGRESQL,
    )
    op.create_index("ix_images_hidden", "images", ["user_id"], sqlite_where=HIDDEN, postgresql_where=HIDDEN_POSTGRESQL)


def downgrade() -> None:
    op.drop_index("ix_images_hidden", "images")
    op.drop_index("ix_images_favorites", "images")
    op.drop_table("clearances")
