"""The record that stands beside each image in storage: all that the index and the ledger are rebuilt from."""

from dataclasses import dataclass, replace
from typing import Self

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

    def of_heir(self, user_id: str) -> Self:
        """The record once its image is another's. The charge stays with the one who has left, and so is nobody's."""
        image = replace(self.image, user_id=user_id, expires_at=None if self.image.listed else self.image.expires_at)
        charge = self.charge
        if charge is not None:
            charge = replace(charge, identity=replace(charge.identity, user_id=FORGOTTEN_USER))
        return replace(self, image=image, charge=charge)


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
