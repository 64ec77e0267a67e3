"""The services without HTTP, for what happens between requests: crashes, lost counters, the sweep."""

from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.clients.redis import reply
from core.clock import now_ms
from core.failpoints import FailPoints
from core.ids import derived_id, new_id
from core.metrics import Metrics
from core.settings import load_settings
from services.container import Container, open_container
from services.generation.delivery import ImageKeeper
from services.history.models import Image
from services.history.records import Record
from services.providers.base import ImageFacts, SpooledImage
from services.quota import ledger
from services.quota.models import QuotaIdentity, Reservation
from services.quota.store import GUESTS, POOL, SERVICE_KEY, USER
from services.storage.names import image_stem
from tests.support.databases import databases
from tests.support.waiting import eventually

FOLDER_ID = "0123456789abcdef"
IMAGE_BYTES = b"\x89PNG\r\n\x1a\nonly its keeper looks at it"


@dataclass(frozen=True)
class Counted:
    """A day's numbers: points of the pool, images by user and mode, points by guests' address and by service key.
    Nothing that is 0.
    """

    pool: int
    users: dict[tuple[str, str], int]
    guests: dict[str, int]
    service_keys: dict[str, int] = field(default_factory=dict)


class Parts:
    """The container of one process, and the steps of the pipeline one by one, so that a test can stop in between."""

    def __init__(self, container: Container, threads: ThreadPoolExecutor) -> None:
        self.container = container
        self.quota = container.quota
        self.recovery = container.recovery
        self.redis = container.redis
        self.keeper = ImageKeeper(container.storage, container.history, container.quota, threads, FailPoints())

    async def reserve(
        self,
        user: str = "usr_a",
        mode: str = "basic_1k",
        count: int = 1,
        *,
        address: str | None = None,
        service_key: tuple[str, int | None] = ("", None),
    ) -> Reservation:
        """`service_key`: its id and its cap."""
        call_id = new_id("call")
        stem = image_stem(
            folder_id=FOLDER_ID, mode="basic", prompt="a lighthouse", image_id=image_id(call_id), made_at=now_ms(),
            listed=True,
        )  # fmt: skip
        identity = QuotaIdentity(user, address, service_key[0] or None, service_key[1])
        return await self.quota.reserve(identity, mode, count, reservation_id=call_id, note=stem)

    async def store_bytes(self, reservation: Reservation) -> Path:
        """As far as a process gets that dies before the record is written."""
        spooled = self._spooled()
        key = f"{reservation.note}.png"
        await self.container.storage.put_file(key, spooled.path, content_type="image/png")
        return self.container.settings.storage.data_dir / "storage" / key

    async def store(self, reservation: Reservation) -> Record:
        """Bytes and record."""
        return await self.keeper.store(draft(reservation), self._spooled(), reservation.note, reservation)

    async def charge(self, reservation: Reservation, index: int = 0) -> None:
        """One image of a reservation into the ledger."""
        charge = self.quota.charge(reservation, derived_id("img", reservation.id, index))
        await self.container.database.write(charge)

    async def ledger(self, day: str) -> Counted:
        totals = await self.container.database.read(lambda connection: ledger.day_totals(connection, day))
        return Counted(totals.pool, totals.by_user_mode, totals.by_guest_address, totals.by_service_key)

    async def counters(self, day: str) -> Counted:
        """What Redis has, set from the ledger before where it has to be."""
        await self.quota.status(QuotaIdentity("usr_nobody"))
        pool = await reply(self.redis.hget(POOL(date=day), "global_used"))
        users = dict[tuple[str, str], int]()
        prefix = USER(date=day, user_id="")
        async for key in self.redis.scan_iter(f"{prefix}*"):
            for name, count in (await reply(self.redis.hgetall(key))).items():
                if name.startswith("mode:") and int(count):
                    users[key.removeprefix(prefix), name.removeprefix("mode:")] = int(count)
        guests = await self._points(GUESTS(date=day, address=""))
        return Counted(int(pool or 0), users, guests, await self._points(SERVICE_KEY(date=day, id="")))

    async def _points(self, prefix: str) -> dict[str, int]:
        found = dict[str, int]()
        async for key in self.redis.scan_iter(f"{prefix}*"):
            points = int(await reply(self.redis.hget(key, "points")) or 0)
            if points:
                found[key.removeprefix(prefix)] = points
        return found

    async def until_expired(self, count: int = 1) -> None:
        async def expired() -> bool:
            return len(await self.quota.expired()) >= count

        assert await eventually(expired)

    def _spooled(self) -> SpooledImage:
        path = self.container.spool.new_path()
        path.write_bytes(IMAGE_BYTES)
        return SpooledImage(path, len(IMAGE_BYTES), ImageFacts("image/png", 1, 1))


def image_id(call_id: str) -> str:
    return derived_id("img", call_id, 0)


def draft(reservation: Reservation) -> Image:
    return Image(
        id=image_id(reservation.id), user_id=reservation.identity.user_id, folder_id=FOLDER_ID,
        key=f"{reservation.note}.png", mode="basic", prompt="a lighthouse", aspect_ratio="1:1", resolution="1K",
        provider="demo", model="demo", duration=0.1, created_at=now_ms(), width=1, height=1, size=len(IMAGE_BYTES),
        mime_type="image/png", call_id=reservation.id,
    )  # fmt: skip


@asynccontextmanager
async def open_parts(environment: Mapping[str, str], empty_database: Path) -> AsyncIterator[Parts]:
    """The container over a copy of an empty database; again over the same DATA_DIR: another process on it."""
    data_dir = load_settings(environment).storage.data_dir
    settings = load_settings({**databases.laid_out(data_dir, empty_database), **environment})
    with ThreadPoolExecutor(2) as threads:
        async with open_container(settings, Metrics()) as container:
            yield Parts(container, threads)
