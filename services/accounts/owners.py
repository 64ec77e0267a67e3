"""Accounts that the database has lost, known again by what storage says of those whose images it holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import Milliseconds
from core.ids import new_id
from services.accounts.models import Role, User, github_folder_id, local_folder_id
from services.accounts.users import add_user, find_folder, find_owner, take_folder_turn


@dataclass(frozen=True)
class Claim:
    """Whose an image is: the id of an account, None where nothing tells it, and the account's folder."""

    user_id: str | None
    folder_id: str


@dataclass(frozen=True)
class Evidence:
    """What the images of a claim say of its account: when the first one was made, and whether one stays for good,
    which a guest's do not.
    """

    since: Milliseconds
    stays: bool


@dataclass(frozen=True)
class Owners:
    """The accounts behind the claims, as far as there are any. `new`: folders of those made, or that had to be made."""

    ids: dict[Claim, str]
    new: frozenset[str]


class OwnerRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def folder_of(self, github: str) -> str | None:
        """The folder of a GitHub account: by its number, or by its login once it has signed in; else None."""
        if github.isascii() and github.isdigit():
            return github_folder_id(int(github))
        return await self._database.read(lambda connection: find_folder(connection, github))

    async def find(self, claims: Mapping[Claim, Evidence]) -> Owners:
        ids = await self._database.read(lambda connection: _found(connection, claims))
        return Owners(ids, frozenset(claim.folder_id for claim in claims.keys() - ids.keys()))

    async def find_or_make(self, claims: Mapping[Claim, Evidence]) -> Owners:
        """Every claim has an account then: one that is missing is made, with its id, folder and role alone.

        Whoever signs in with the GitHub account of the folder has it from then on. Nobody can sign in to a local one,
        whose password was in the database alone.
        """
        found = await self.find(claims)
        if not found.new:
            return found
        return await self._database.write(lambda connection: _completed(connection, claims))


def _found(connection: Connection, claims: Mapping[Claim, Evidence]) -> dict[Claim, str]:
    ids = {claim: find_owner(connection, claim.user_id, claim.folder_id) for claim in claims}
    return {claim: user_id for claim, user_id in ids.items() if user_id is not None}


def _completed(connection: Connection, claims: Mapping[Claim, Evidence]) -> Owners:
    ids, made = dict[Claim, str](), set[str]()
    # In one order, so that of two who do this at once none waits for the other for ever.
    for claim, evidence in sorted(claims.items(), key=lambda entry: entry[0].folder_id):
        take_folder_turn(connection, claim.folder_id)
        user_id = find_owner(connection, claim.user_id, claim.folder_id)
        if user_id is None:
            user_id = claim.user_id or new_id("usr")
            add_user(connection, User(user_id, _role(user_id, claim, evidence), claim.folder_id, evidence.since))
            made.add(claim.folder_id)
        ids[claim] = user_id
    return Owners(ids, frozenset(made))


def _role(user_id: str, claim: Claim, evidence: Evidence) -> Role:
    """Never more than a user: who is an admin is for ADMIN_LOGINS and for admins to say again."""
    is_local = claim.folder_id == local_folder_id(user_id)
    return "guest" if is_local and not evidence.stays else "user"
