"""The record that stands beside each image in storage: all that the index and the ledger are rebuilt from."""

from dataclasses import dataclass, replace

import orjson

from services.history.models import Image
from services.quota.models import FORGOTTEN_USER, QuotaIdentity, Reservation

VERSION = 1


class BrokenRecord(Exception):
    """A record cannot be read back."""


@dataclass(frozen=True)
class Record:
    """`charge` is the reservation that the image was made under; None for a call that was not metered."""

    image: Image
    charge: Reservation | None


def nobodys(charge: Reservation) -> Reservation:
    """A charge whose image is another's by now: it stays with the one who has left, and cannot be told any more."""
    identity = replace(charge.identity, user_id=FORGOTTEN_USER, service_key_id=None, service_key_limit=None)
    return replace(charge, identity=identity)


def write_record(record: Record) -> bytes:
    return orjson.dumps(
        {"version": VERSION, "image": record.image, "charge": record.charge},
        option=orjson.OPT_INDENT_2,
    )


def read_record(data: bytes) -> Record:
    """Raises BrokenRecord."""
    try:
        content = orjson.loads(data)
        charge = content["charge"]
        if charge is not None:
            charge = Reservation(**{**charge, "identity": QuotaIdentity(**charge["identity"])})
        return Record(Image(**content["image"]), charge)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BrokenRecord(str(error)) from error
