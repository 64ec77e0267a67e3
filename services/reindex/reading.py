"""From objects to what is to be entered; what cannot be read is reported and keeps no other from its place."""

from services.history.records import BrokenRecord, read_record
from services.reindex.foundlings import NoOwner, NoPicture, foundling
from services.reindex.models import Entry, Found, Tally
from services.storage.base import ObjectInfo, Storage
from services.storage.errors import ObjectNotFound
from services.storage.names import record_key, stem_of


async def read_recorded(found: Found, storage: Storage, report: Tally) -> Entry | None:
    """What a record says; None where it says nothing of an image that is there."""
    info = found.record
    assert info is not None, "those without one are for later"
    try:
        record = read_record(await storage.get(info.key))
    except ObjectNotFound:
        return None  # deleted since it was listed
    except BrokenRecord as error:
        report.found_odd("unreadable", info.key, str(error))
        return None
    if stem_of(record.image.key) != found.stem:
        report.found_odd("unreadable", info.key, f"is of {record.image.key}")
        return None
    listed = {each.key: each for each in found.images}
    # Something that lies between the two in the list may have parted them.
    stored = listed.pop(record.image.key, None) or await _stat(storage, record.image.key)
    for other in listed:
        report.found_odd("unknown", other)
    if stored is None:
        report.found_odd("no_image", info.key)
        return None
    modified_at = max(info.modified_at, stored.modified_at)
    return Entry(record.image, record.charge, record.owner_folder_id, "record", modified_at)


async def read_alone(info: ObjectInfo, storage: Storage, report: Tally) -> Entry | None:
    """What there is to tell of an image without a record. Whether its record was lost, or its call died before there
    was one, nothing tells.
    """
    if await _stat(storage, record_key(stem_of(info.key))) is not None:
        return None  # a record that came since, or that something in between had parted from it
    try:
        return await foundling(storage, info)
    except ObjectNotFound:
        return None  # deleted since it was listed
    except NoOwner:
        report.found_odd("no_owner", info.key)
    except NoPicture:
        report.found_odd("no_picture", info.key)
    return None


async def _stat(storage: Storage, key: str) -> ObjectInfo | None:
    try:
        return await storage.stat(key)
    except ObjectNotFound:
        return None
