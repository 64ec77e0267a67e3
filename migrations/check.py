"""`python -m migrations.check`: can this version start with the database of DATABASE_URL? Says in one line why not."""

import sys

from sqlalchemy import Connection, text

from core.settings import SettingsError, load_settings
from migrations.head import GIVEN, DatabaseBehind, DatabaseRefused, is_head
from migrations.postgresql import run


def check(url: str) -> None:
    """Raises DatabaseUnusable, DatabaseBehind, or UnknownRevision for a database that is ahead."""
    revision = run(url, _revision)
    if not is_head(revision, GIVEN):
        raise DatabaseBehind(revision)


def _revision(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return revision


def main() -> int:
    try:
        check(load_settings().database.database_url.get_secret_value())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except DatabaseRefused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
