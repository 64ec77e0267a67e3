"""`python -m migrations upgrade`: bring the database of the settings to the newest revision."""

import argparse
import sys

from sqlalchemy.exc import SQLAlchemyError

from core.settings import SettingsError, embedded_database, load_settings
from migrations.head import DatabaseRefused
from migrations.upgrade import upgrade


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m migrations", description=__doc__)
    parser.add_argument("command", choices=["upgrade"])
    parser.parse_args()
    try:
        settings = load_settings()
        path = embedded_database(settings.storage.data_dir.absolute())
        upgrade(settings.database.database_url.get_secret_value() or f"sqlite:///{path}")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (DatabaseRefused, SQLAlchemyError) as error:
        sys.stderr.write(f"the database can't be upgraded: {str(error).splitlines()[0]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
