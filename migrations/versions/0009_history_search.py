"""Searching the history: folded prompts and the index of their grams; how many images each user sees; folded groups.

Revision ID: 0009
Revises: 0008
"""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BATCH = 1000
# By the name of each index: its columns, and its condition in the words of SQLite.
SHOWN = "listed IS 1 AND deleted_at IS NULL"
INDICES: dict[str, tuple[list[str], str]] = {
    "ix_images_unsealed": (["user_id", "created_at", "id"], f"{SHOWN} AND search_slot IS NULL"),
    "ix_images_search_slot": (["search_slot", "deleted_at", "created_at", "id"], "search_slot IS NOT NULL"),
    "ix_images_unfolded": (["id"], "folded IS NULL"),
    "ix_images_duration": (["user_id", "duration", "created_at", "id"], SHOWN),
    "ix_images_groups": (
        ["user_id", "group_id", "created_at", "id"],
        f"{SHOWN} AND group_id IS NOT NULL",
    ),
}
COUNTED = "user_id, mode, is_favorite, listed, deleted_at"
SQLITE_SHOWN = "{row}.listed IS 1 AND {row}.deleted_at IS NULL"
SQLITE_COUNT = """
    INSERT INTO shown_counts (user_id, mode, is_favorite, shown)
    VALUES ({row}.user_id, {row}.mode, {row}.is_favorite, {change})
    ON CONFLICT (user_id, mode, is_favorite) DO UPDATE SET shown = shown + excluded.shown;
"""
# One statement for all rows that another one has changed; in one order, so that two of them do not wait for each other.
POSTGRESQL_COUNT = """
    INSERT INTO shown_counts (user_id, mode, is_favorite, shown)
    SELECT user_id, mode, is_favorite, sum(change) FROM ({changes}) AS changes
    GROUP BY user_id, mode, is_favorite HAVING sum(change) <> 0 ORDER BY user_id, mode, is_favorite
    ON CONFLICT (user_id, mode, is_favorite) DO UPDATE SET shown = shown_counts.shown + excluded.shown;
"""
POSTGRESQL_CHANGES = (
    "SELECT user_id, mode, is_favorite, {change} AS change FROM {rows} WHERE listed AND deleted_at IS NULL"
)


def upgrade() -> None:
    op.add_column("images", sa.Column("folded", sa.Text))
    op.add_column("images", sa.Column("search_slot", sa.BigInteger))
    # PostgreSQL knows stored ones alone before its version 18, and SQLite can't add one to a table that is there.
    group = sa.Computed("coalesce(session_id, task_id)", persisted=op.get_bind().dialect.name == "postgresql")
    op.add_column("images", sa.Column("group_id", sa.String, group))
    _fold_prompts()
    _create_tables()
    for name, (columns, condition) in INDICES.items():
        on_postgresql = sa.text(condition.replace("IS 1", "IS true"))
        op.create_index(name, "images", columns, sqlite_where=sa.text(condition), postgresql_where=on_postgresql)
    op.execute(
        "INSERT INTO shown_counts (user_id, mode, is_favorite, shown) "
        "SELECT user_id, mode, is_favorite, count(*) FROM images WHERE listed AND deleted_at IS NULL "
        "GROUP BY user_id, mode, is_favorite"
    )
    if op.get_bind().dialect.name == "sqlite":
        _count_by_row()
    else:
        _count_by_statement()


def _create_tables() -> None:
    op.create_table(
        "search_segments",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("removed", sa.Integer, nullable=False),
        sa.Column("oldest_at", sa.BigInteger, nullable=False),
        sa.Column("newest_at", sa.BigInteger, nullable=False),
        sa.Column("newest_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_segments"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_search_segments_user_id", "search_segments", ["user_id"])
    op.create_table(
        "search_postings",
        sa.Column("segment_id", sa.Integer, nullable=False),
        sa.Column("gram", sa.String, nullable=False),
        sa.Column("slots", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "gram", name="pk_search_postings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shown_counts",
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("is_favorite", sa.Boolean, nullable=False),
        sa.Column("shown", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "mode", "is_favorite", name="pk_shown_counts"),
        sqlite_with_rowid=False,
    )


def _fold_prompts() -> None:
    """Of a thousand images at a time, however many there are."""
    connection = op.get_bind()
    some = sa.text(f"SELECT id, prompt FROM images WHERE id > :after ORDER BY id LIMIT {BATCH}")
    fold = sa.text("UPDATE images SET folded = :folded WHERE id = :id")
    after = ""
    while rows := connection.execute(some, {"after": after}).all():
        folded = [{"id": row.id, "folded": unicodedata.normalize("NFKC", row.prompt).casefold()} for row in rows]
        connection.execute(fold, folded)
        after = rows[-1].id


def _count_by_row() -> None:
    shown = {row: SQLITE_SHOWN.format(row=row) for row in ("OLD", "NEW")}
    come = SQLITE_COUNT.format(row="NEW", change=1)
    gone = SQLITE_COUNT.format(row="OLD", change=-1)
    for name, when, row, count in (
        ("come", "INSERT", "NEW", come),
        ("gone", "DELETE", "OLD", gone),
        ("changed_from", f"UPDATE OF {COUNTED}", "OLD", gone),
        ("changed_to", f"UPDATE OF {COUNTED}", "NEW", come),
    ):
        op.execute(f"CREATE TRIGGER images_{name} AFTER {when} ON images WHEN {shown[row]} BEGIN {count} END")


def _count_by_statement() -> None:
    come = POSTGRESQL_CHANGES.format(change=1, rows="come")
    gone = POSTGRESQL_CHANGES.format(change=-1, rows="gone")
    for name, when, tables, changes in (
        ("come", "INSERT", "NEW TABLE AS come", come),
        ("gone", "DELETE", "OLD TABLE AS gone", gone),
        ("changed", "UPDATE", "OLD TABLE AS gone NEW TABLE AS come", f"{gone} UNION ALL {come}"),
    ):
        count = POSTGRESQL_COUNT.format(changes=changes)
        op.execute(
            f"CREATE FUNCTION count_images_{name}() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$ BEGIN {count} RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER images_{name} AFTER {when} ON images REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION count_images_{name}()"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name in ("come", "gone", "changed_from", "changed_to"):
            op.execute(f"DROP TRIGGER images_{name}")
    else:
        for name in ("come", "gone", "changed"):
            op.execute(f"DROP TRIGGER images_{name} ON images")
            op.execute(f"DROP FUNCTION count_images_{name}()")
    for name in INDICES:
        op.drop_index(name, "images")
    for table in ("shown_counts", "search_postings", "search_segments"):
        op.drop_table(table)
    for column in ("group_id", "search_slot", "folded"):
        op.drop_column("images", column)
