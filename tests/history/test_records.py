"""A record is read back as it was written, or refused."""

from typing import Any

import orjson
import pytest

from services.history.records import BrokenRecord, Owner, Record, read_record, write_record
from services.quota.models import QuotaIdentity, Reservation
from tests.history.test_object_metadata import IMAGE

CHARGE = Reservation("call_a", QuotaIdentity("usr_a", "203.0.113.7"), "chat", 2, 2, "2026-11-25", 1)


@pytest.mark.parametrize(
    "record",
    [Record(IMAGE, None), Record(IMAGE, CHARGE), Record(IMAGE, CHARGE, Owner("usr_a", "fedcba9876543210"))],
)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    assert read_record(write_record(record)) == record


def test_a_record_from_before_owners_were_written_is_the_makers() -> None:
    content = orjson.loads(write_record(Record(IMAGE, CHARGE)))
    del content["owner"]
    record = read_record(orjson.dumps(content))
    assert record == Record(IMAGE, CHARGE)
    assert record.owner_folder_id == IMAGE.folder_id


def test_whose_it_is_counts_only_for_the_user_who_has_it() -> None:
    assert Record(IMAGE, None, Owner("usr_a", "fedcba9876543210")).owner_folder_id == "fedcba9876543210"
    assert Record(IMAGE, None, Owner("usr_b", "fedcba9876543210")).owner_folder_id == IMAGE.folder_id


def changed(part: str, **fields: Any) -> bytes:
    content = orjson.loads(write_record(Record(IMAGE, CHARGE)))
    return orjson.dumps({**content, **({part: {**content[part], **fields}} if part else fields)})


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", b"[]", b"null", b'"text"', b"{}", changed("", image=None), changed("", image=[1]),
     changed("", charge="free"), changed("image", width="640"), changed("image", width=True),
     changed("image", width=2**31), changed("image", seed=2**63), changed("image", created_at=1.5),
     changed("image", prompt=None), changed("image", prompt="a\0b"), changed("image", is_favorite=1),
     changed("image", of_a_newer_version=1), changed("charge", count=0), changed("charge", points="1"),
     changed("charge", identity=None), changed("charge", identity={"user_id": 7}), changed("", owner={"user_id": "a"})],
)  # fmt: skip
def test_what_is_no_record_or_would_fit_into_no_database_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenRecord):
        read_record(data)
