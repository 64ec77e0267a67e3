"""The record that stands beside each image in storage: all that the index and the ledger are rebuilt from."""

from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import orjson

from services.history.models import Image
from services.quota.models import FORGOTTEN_USER, QuotaIdentity, Reservation

VERSION = 1
_BITS = 63
# What a column of a database holds in 32 bits.
_SMALL = {"width", "height", "chat_index", "points", "count"}


class BrokenRecord(Exception):
    """A record cannot be read back."""


@dataclass(frozen=True)
class Owner:
    """The account that has an image. Its folder says who it is where its id says nothing to anybody any more."""

    user_id: str
    folder_id: str


@dataclass(frozen=True)
class Record:
    """`charge` is the reservation that the image was made under; None for a call that was not metered.

    `owner` None: whoever made it, in whose folder it lies.
    """

    image: Image
    charge: Reservation | None
    owner: Owner | None = None

    @property
    def owner_folder_id(self) -> str:
        owner = self.owner
        # One that names another user is of a change that was not carried out.
        return self.image.folder_id if owner is None or owner.user_id != self.image.user_id else owner.folder_id


_KINDS = {kind: get_type_hints(kind) for kind in (Image, Reservation, QuotaIdentity, Owner)}


def nobodys(charge: Reservation) -> Reservation:
    """A charge whose image is another's by now: it stays with the one who has left, and cannot be told any more."""
    identity = replace(charge.identity, user_id=FORGOTTEN_USER, service_key_id=None, service_key_limit=None)
    return replace(charge, identity=identity)


def write_record(record: Record) -> bytes:
    return orjson.dumps(
        {"version": VERSION, "image": record.image, "charge": record.charge, "owner": record.owner},
        option=orjson.OPT_INDENT_2,
    )


def read_record(data: bytes) -> Record:
    """Raises BrokenRecord, also for what no database would take."""
    try:
        content = orjson.loads(data)
        image, charge, owner = content["image"], content["charge"], content.get("owner")
        if charge is not None:
            charge = _made(Reservation, {**charge, "identity": _made(QuotaIdentity, charge["identity"])})
            if charge.count < 1:
                raise ValueError("count")
        return Record(_made(Image, image), charge, None if owner is None else _made(Owner, owner))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenRecord(str(error)) from error


def _made(kind: type[Any], fields: dict[str, Any]) -> Any:
    """Raises TypeError or ValueError with the name of a field that is not what it should be."""
    made = kind(**fields)
    for name, hint in _KINDS[kind].items():
        value = getattr(made, name)
        wanted = hint | int if hint is float else hint
        if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
            raise TypeError(f"{name}: {type(value).__name__}")
        if isinstance(value, int) and not -(2**_BITS) <= value << (32 if name in _SMALL else 0) < 2**_BITS:
            raise ValueError(f"{name}: too large")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name}: holds a NUL character")
    return made
