"""What the old app leaves: its keys, its lists, its metadata, each with the oddities that it is known for."""

import io
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from PIL import Image as Pixels

from services.accounts.models import github_folder_id

SHANGHAI = "Asia/Shanghai"
IN_METADATA, IN_LIST = 256, 500

Put = Callable[[str, bytes, Mapping[str, str]], None]


@dataclass(frozen=True)
class OldImage:
    """One image of the old app. `made_at` is what the clock on its wall showed."""

    key: str
    data: bytes
    prompt: str
    made_at: datetime
    mode: str = "basic"
    aspect_ratio: str = "16:9"
    resolution: str = "1K"
    duration: float = 7.5
    session_id: str | None = None
    chat_index: int | None = None
    text_response: str | None = None
    thinking: str | None = None

    def metadata(self, *, hyphens: bool = False) -> dict[str, str]:
        values = {
            "prompt": urllib.parse.quote(self.prompt[:IN_METADATA]), "mode": self.mode,
            "duration": str(self.duration), "aspect_ratio": self.aspect_ratio, "resolution": self.resolution,
            "created_at": self.made_at.isoformat(),
        }  # fmt: skip
        if self.session_id is not None:
            values |= {"session_id": self.session_id, "chat_index": str(self.chat_index)}
        return {name.replace("_", "-"): value for name, value in values.items()} if hyphens else values

    def entry(self) -> dict[str, Any]:
        optional = {
            "text_response": self.text_response, "thinking": self.thinking, "session_id": self.session_id,
            "chat_index": self.chat_index,
        }  # fmt: skip
        return {
            "key": self.key, "filename": self.key.rpartition("/")[2], "prompt": self.prompt[:IN_LIST],
            "settings": {"aspect_ratio": self.aspect_ratio, "resolution": self.resolution},
            "duration": self.duration, "mode": self.mode, "created_at": self.made_at.isoformat(),
        } | {name: value for name, value in optional.items() if value is not None}  # fmt: skip

    def on_disk(self, *, r2_key: str | None = None) -> dict[str, Any]:
        """The entry of a list on the old app's own disk, whose files are named below the list's folder."""
        entry = self.entry()
        del entry["key"]
        entry["filename"] = self.key.partition("/")[2].partition("/")[2] if "users/" in self.key else self.key
        return entry if r2_key is None else entry | {"r2_key": r2_key, "r2_url": f"https://old.example/{r2_key}"}


@dataclass
class OldLibrary:
    """All of a bucket: images that are to move in, by key, and how often each oddity is to be found."""

    images: dict[str, OldImage] = field(default_factory=dict)
    shared: dict[str, OldImage] = field(default_factory=dict)
    lists: dict[str, bytes] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)

    def count_odd(self, kind: str, count: int = 1) -> None:
        self.odd[kind] = self.odd.get(kind, 0) + count

    def put(self, put: Put) -> None:
        for number, image in enumerate([*self.images.values(), *self.shared.values()]):
            put(image.key, image.data, image.metadata(hyphens=number % 2 == 1))
        for key, data in {**self.lists, **self.others}.items():
            put(key, data, {})


@cache
def picture(number: int, form: str = "PNG") -> bytes:
    """Small, and another one for each number."""
    file = io.BytesIO()
    color = (number % 256, number // 256 % 256, number // 65536 % 256)
    Pixels.new("RGB", (24, 16), color).save(file, form)
    return file.getvalue()


def milliseconds(made_at: datetime, zone: str = SHANGHAI) -> int:
    return int(made_at.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def list_of(images: list[OldImage], most: int) -> bytes:
    """The newest first, and no more than so many."""
    return orjson.dumps([image.entry() for image in reversed(images)][:most], option=orjson.OPT_INDENT_2)


def old_image(folder: str, number: int, **values: Any) -> OldImage:
    """`folder`: `users/…/`, or empty for the history of no user."""
    mode = ("basic", "chat", "batch", "search", "style")[number % 5]
    made_at = datetime(2025, 3, 9, 21, 30) + timedelta(minutes=7 * number, microseconds=345678)
    prompt = PROMPTS[number % len(PROMPTS)].format(number)
    image = OldImage(
        f"{folder}{made_at:%Y/%m/%d}/{mode}_{made_at:%H%M%S}_{slug(prompt)}.png", picture(number), prompt, made_at,
        mode,
        aspect_ratio=("16:9", "1:1")[number % 2], resolution=("1K", "2K", "4K")[number % 3], duration=number / 4,
        text_response=f"here is number {number}" if number % 7 == 0 else None,
        thinking=f"I think of number {number}" if number % 11 == 0 else None,
    )  # fmt: skip
    if mode == "chat":
        image = replace(image, session_id=f"session-{number // 25}", chat_index=number // 5 % 5)
    return replace(image, **values)


PROMPTS = (
    "a lighthouse at dusk, number {}",
    "第{}只可爱的猫坐在窗台上看雪",
    "50% off: the {}. sale & more\n",
    "a very long prompt about the {}. harbour, " + "with boats and gulls and fog and " * 20,
    "第{}幅很长的画：" + "山水之间有一座小桥，" * 45,
)


def slug(prompt: str) -> str:
    """As the old app made it: letters of any script, and nothing that tells two prompts apart."""
    letters = "".join(letter if letter.isalnum() else "_" for letter in prompt[:30])
    return letters.strip("_")[:20] or "image"


def library(users: int, images_each: int, listed: int) -> OldLibrary:
    """Of as many GitHub accounts, whose numbers are 1000 and on; `listed`: how many images a list has at most."""
    old = OldLibrary()
    for user in range(users):
        folder = f"users/{github_folder_id(1000 + user)}/"
        images = [old_image(folder, user * images_each + number) for number in range(images_each)]
        old.images |= {image.key: image for image in images}
        old.lists[f"{folder}history.json"] = list_of(images, listed)
        old.count_odd("no_entry", images_each - listed)
    shared = [old_image("", 900_000 + number) for number in range(5)]
    old.shared = {image.key: image for image in shared}
    old.lists["history.json"] = list_of(shared, len(shared))
    _make_odd(old, [github_folder_id(1000 + user) for user in range(users)], listed)
    return old


def _make_odd(old: OldLibrary, folders: list[str], listed_each: int) -> None:
    """One kind of oddity a user, of the first ones."""
    broken, twice, without, unlisted, strange = (f"users/{folder}/" for folder in folders[:5])
    old.lists[f"{broken}history.json"] = old.lists[f"{broken}history.json"][:-20]
    old.count_odd("broken_json")
    old.count_odd("no_entry", listed_each)

    listed = orjson.loads(old.lists[f"{twice}history.json"])
    first = listed[0]
    overwritten = {**first, "prompt": "what was overwritten", "created_at": listed[1]["created_at"]}
    old.lists[f"{twice}history.json"] = orjson.dumps([first, overwritten, *listed[1:]])
    old.count_odd("same_key")

    gone = [old_image(without, 800_000 + number) for number in range(3)]
    listed = orjson.loads(old.lists[f"{without}history.json"])
    old.lists[f"{without}history.json"] = orjson.dumps([*(image.entry() for image in gone), *listed])
    old.count_odd("no_object", 3)

    del old.lists[f"{unlisted}history.json"]
    old.count_odd("no_entry", listed_each)

    listed = orjson.loads(old.lists[f"{strange}history.json"])
    elsewhere = old_image(broken, 1)
    entries = [*listed, {"prompt": "of nothing"}, "no entry", {**elsewhere.entry(), "key": elsewhere.key}]
    old.lists[f"{strange}history.json"] = orjson.dumps(entries)
    old.count_odd("broken_entry", 2)
    old.count_odd("elsewhere")
    old.others |= {
        f"{strange}2025/03/09/basic_101010_no_picture.png": b"<html>502 Bad Gateway</html>",
        f"{strange}2025/03/09/basic_101011_cut.png": picture(1)[:20],
        f"{strange}notes.txt": b"hello",
        f"{strange}loose.png": picture(2),
        "users/None/2025/03/09/basic_101012_nobody.png": picture(3),
        "users/None/history.json": b"[]",
    }
    old.count_odd("no_picture", 2)
    old.count_odd("no_entry", 3)
    old.count_odd("unknown")
    old.count_odd("no_day")
    old.count_odd("no_account")
