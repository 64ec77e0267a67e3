"""Who is an admin: by ADMIN_LOGINS, or made one by another admin."""

from collections.abc import Sequence

from sqlalchemy import Connection

from services.accounts.models import Role, User
from services.accounts.users import pin_admin_login, pinned_logins


class AdminPolicy:
    """`entries` of ADMIN_LOGINS: digits alone are GitHub's numeric id, anything else is a login in any case.

    A login may be renamed and then be taken by a stranger. So an entry's login is pinned to the first id that signs in
    with it, and it is the id that counts from then on.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._ids = frozenset(int(entry) for entry in entries if _is_number(entry))
        self._logins = frozenset(entry.casefold() for entry in entries if not _is_number(entry))

    def role(self, connection: Connection, user: User) -> Role:
        """What somebody is now; the settings may have changed since they signed in."""
        if user.role == "guest":
            return "guest"
        return "admin" if user.is_granted_admin or self.names(connection, user.github_id) else "user"

    def names(self, connection: Connection, github_id: int | None) -> bool:
        """Whether ADMIN_LOGINS itself makes this GitHub account an admin."""
        if github_id is None:
            return False
        return github_id in self._ids or any(login in self._logins for login in pinned_logins(connection, github_id))

    def note_login(self, connection: Connection, login: str, github_id: int) -> None:
        """Pin a login that is one of the entries, the first time it signs in."""
        if login.casefold() in self._logins:
            pin_admin_login(connection, login.casefold(), github_id)


def _is_number(entry: str) -> bool:
    return entry.isascii() and entry.isdigit()
