"""Indices for the retention run: images by age with what they weigh, and those on their way out one after another.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PRESENT = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_images_age", "images", ["created_at", "size", "deleted_at"])
    op.drop_index("ix_images_deleted_at", "images")
    op.create_index(
        "ix_images_deleted_at", "images", ["deleted_at", "id"], sqlite_where=PRESENT, postgresql_where=PRESENT
    )


def downgrade() -> None:
    op.drop_index("ix_images_deleted_at", "images")
    op.create_index("ix_images_deleted_at", "images", ["deleted_at"], sqlite_where=PRESENT, postgresql_where=PRESENT)
    op.drop_index("ix_images_age", "images")
