"""Blocks of the search's index.

A process of the version before reads the segments of a block one by one: it knows neither their state nor the table.
It may dissolve one of them; its block is dissolved after it, and a block's postings go with its first segment.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("search_segments", sa.Column("block_id", sa.Integer))
    op.add_column("search_segments", sa.Column("place", sa.Integer))
    op.create_table(
        "search_block_postings",
        sa.Column("block_id", sa.Integer, nullable=False),
        sa.Column("gram", sa.String, nullable=False),
        sa.Column("slots", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("block_id", "gram", name="pk_search_block_postings"),
        sa.ForeignKeyConstraint(
            ["block_id"], ["search_segments.id"], ondelete="CASCADE", name="fk_search_block_postings_block_id"
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("search_block_postings")
    for column in ("place", "block_id"):
        op.drop_column("search_segments", column)
