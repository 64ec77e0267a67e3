"""Own prompts and favorites; the audit of the moderation as admins ask for it.

Checks that were made before stand in storage alone.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _prompts()
    _checks()


def _prompts() -> None:
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_table(
        "prompts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("category", sa.String, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("searchable", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"),
    )
    op.create_index("ix_prompts_user_id_created_at", "prompts", ["user_id", "created_at"])
    op.create_table(
        "prompt_favorites",
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("prompt_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("user_id", "prompt_id", name="pk_prompt_favorites"),
    )
    op.create_index("ix_prompt_favorites_prompt_id", "prompt_favorites", ["prompt_id"])
    for table in ("prompts", "prompt_favorites"):
        op.create_index(
            f"ix_{table}_expires_at", table, ["expires_at"], sqlite_where=expiring, postgresql_where=expiring
        )


def _checks() -> None:
    op.create_table(
        "moderation_checks",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("checked_at", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.String),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("prompt_sha256", sa.String, nullable=False),
        sa.Column("prompt", sa.Text),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("layer", sa.String, nullable=False),
        sa.Column("category", sa.String),
        sa.Column("layers", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_moderation_checks"),
    )
    op.create_index("ix_moderation_checks_checked_at_id", "moderation_checks", ["checked_at", "id"])
    op.create_index("ix_moderation_checks_user_id_checked_at", "moderation_checks", ["user_id", "checked_at"])
    noted = sa.text("decision != 'passed'")
    op.create_index(
        "ix_moderation_checks_noted",
        "moderation_checks",
        ["decision", "checked_at", "id"],
        sqlite_where=noted,
        postgresql_where=noted,
    )


def downgrade() -> None:
    for table in ("moderation_checks", "prompt_favorites", "prompts"):
        op.drop_table(table)
