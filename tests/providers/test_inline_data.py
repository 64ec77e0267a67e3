"""The reader of answers: whatever way an answer is cut and written, the same bytes and the same JSON come out."""

import base64
import json
import random
import resource
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.standin_answers import EncodedPicture, image_answer
from benchmarks.standin_behaviour import parse_step
from services.providers.inline_data import AnswerTooLarge, BrokenAnswer, InlineDataReader
from services.storage.spool import Spool

MODEL = "gemini-3-pro-image"
KIB = 1024
WITH_THOUGHTS = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
# Each of the 64 digits occurs, and the length leaves padding of two characters.
PICTURE = random.Random(1).randbytes(3001)
TRAP = 'a "quoted" text {"data":"AAAA"} and, "data": "BBBB", {\\"data\\":\\"CCCC\\"} 图 \u2028 end\\'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder)


def make_reader(spool: Spool, *, images: int = 8, image: int = 1 << 26, rest: int = 1 << 20) -> InlineDataReader:
    return InlineDataReader(spool, max_payloads=images, max_payload_bytes=image, max_rest_bytes=rest)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def cut_anywhere(body: bytes, dice: random.Random) -> list[bytes]:
    """Pieces of 0 to 2,000 bytes, small ones more often."""
    pieces, start = [], 0
    while start < len(body):
        size = int(dice.random() ** 3 * 2000)
        pieces.append(body[start : start + size])
        start += size
    return pieces


def read(spool: Spool, pieces: Sequence[bytes], **limits: int) -> tuple[Any, list[bytes]]:
    """The JSON and the decoded payloads; their files are removed."""
    reader = make_reader(spool, **limits)
    for piece in pieces:
        reader.feed(piece)
    answer, payloads = reader.finish()
    content = [payload.path.read_bytes() for payload in payloads]
    assert [payload.size for payload in payloads] == [len(data) for data in content]
    reader.discard()
    return answer, content


def refused(spool: Spool, pieces: Sequence[bytes], **limits: int) -> Exception:
    """The error of an answer that must not be taken; discarding leaves no file."""
    reader = make_reader(spool, **limits)
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.finish()
    except (BrokenAnswer, AnswerTooLarge) as error:
        return error
    finally:
        reader.discard()
    raise AssertionError("the answer was taken")


def feed_until_refused(reader: InlineDataReader, piece: bytes) -> int:
    """How many bytes it took."""
    for times in range(1, 1000):
        try:
            reader.feed(piece)
        except AnswerTooLarge:
            return times * len(piece)
    raise AssertionError("it takes anything")


def body_of(data: str, **fields: Any) -> bytes:
    """An answer with one image whose `data` is this JSON text."""
    return b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":%s}}]}}]%s}' % (
        data.encode(),
        b"".join(b",%s:%s" % (json.dumps(name).encode(), json.dumps(value).encode()) for name, value in fields.items()),
    )


def encoded(data: bytes) -> str:
    return json.dumps(base64.b64encode(data).decode())


SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "pretty": ({"formats": ["pretty"]}, {}),
    "escaped": ({"formats": ["escaped_base64"]}, {}),
    "pretty and escaped": ({"formats": ["pretty", "escaped_base64"]}, {}),
    "url-safe": ({"formats": ["url_safe_base64"]}, {}),
    "data first": ({"formats": ["mime_after_data"]}, {}),
    "thoughts": ({}, WITH_THOUGHTS),
    "thoughts and text": ({"text": "done"}, WITH_THOUGHTS),
    "grounded": ({"text": TRAP}, {"tools": [{"google_search": {}}]}),
    "text with a trap": ({"text": TRAP, "mode": "text_and_image"}, {}),
    "pretty text with a trap": ({"text": TRAP, "mode": "text_and_image", "formats": ["pretty"]}, {}),
}


def standin_body(shape: str, picture: bytes = PICTURE) -> bytes:
    step, request = SHAPES[shape]
    return b"".join(image_answer(request, parse_step(step), EncodedPicture(picture), MODEL))


def expected(body: bytes) -> tuple[Any, list[bytes]]:
    """What a plain JSON parser and base64 decoder make of a body, in the reader's terms."""
    images: list[bytes] = []

    def replace_data(found: dict[str, Any]) -> dict[str, Any]:
        if isinstance(found.get("data"), str):
            images.append(base64.b64decode(found["data"], altchars=b"-_" if set(found["data"]) & set("-_") else None))
            return {**found, "data": len(images) - 1}
        return found

    return json.loads(body, object_hook=replace_data), images


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 7, 64 * KIB])
def test_every_shape_is_read_alike_in_pieces_of_every_size(spool: Spool, shape: str, size: int) -> None:
    body = standin_body(shape)
    assert read(spool, cut(body, size)) == expected(body)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_at_any_single_place_changes_nothing(spool: Spool, shape: str) -> None:
    body = standin_body(shape, b"\xff\xef\xbe" * 5 + b"\xfb")
    wanted = expected(body)
    for place in range(len(body) + 1):
        assert read(spool, [body[:place], body[place:]]) == wanted, place


def test_random_answers_cut_at_random_places_are_read_as_a_json_parser_reads_them(spool: Spool) -> None:
    dice = random.Random(20261122)
    for _ in range(150):
        parts: list[dict[str, Any]] = []
        for _ in range(dice.randrange(4)):
            picture = base64.b64encode(dice.randbytes(dice.randrange(200))).decode()
            if dice.random() < 0.3:
                picture = picture.replace("+", "-").replace("/", "_")
            inline = {"mimeType": "image/png", "data": picture}
            items = dice.sample(sorted(inline.items()), 2)
            parts.append({"inlineData": dict(items), "thought": dice.random() < 0.5})
            parts.append({"text": "".join(dice.choices('{},:"\\ data图\n', k=dice.randrange(60)))})
        indent = dice.choice([None, 2])
        body = json.dumps(
            {"candidates": [{"content": {"parts": parts}}]}, indent=indent, ensure_ascii=dice.random() < 0.5
        )
        assert read(spool, cut_anywhere(body.encode(), dice)) == expected(body.encode()), body


def test_several_images_come_in_their_order(spool: Spool) -> None:
    pictures = [b"first", b"", b"third one"]
    parts = ",".join(f'{{"inlineData":{{"data":{encoded(picture)}}}}}' for picture in pictures)
    answer, found = read(spool, cut(f'{{"parts":[{parts}]}}'.encode(), 5))
    assert found == pictures
    assert [part["inlineData"]["data"] for part in answer["parts"]] == [0, 1, 2]


def test_an_escaped_text_that_looks_like_data_stays_text(spool: Spool) -> None:
    body = standin_body("text with a trap")
    for size in (1, 2, 64 * KIB):
        answer, found = read(spool, cut(body, size))
        assert answer["candidates"][0]["content"]["parts"][0]["text"] == TRAP
        assert found == [PICTURE]


def test_a_name_that_ends_like_data_is_no_data(spool: Spool) -> None:
    body = json.dumps({'a"data': "AAAA", '{,"data': "BBBB", "data ": "CCCC", "metadata": "DDDD"}, separators=(",", ":"))
    for size in (1, 64 * KIB):
        assert read(spool, cut(body.encode(), size)) == (json.loads(body), [])


def test_empty_data_is_an_empty_payload(spool: Spool) -> None:
    assert read(spool, [body_of('""')])[1] == [b""]


@pytest.mark.parametrize(
    "text",
    ['"A"', '"AAAAA"', '"AAAAAA"', '"AA=="AA"', '"AA*A"', '"AA A"', '"A==="', '"====":', '"AA==AAAA"', '"图AAA"',
     '"AAA\\ud800"', '"AAAA\\n"', '"AA\\u003"', '"AAA\\', '"AAA\\""'],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 64 * KIB])
def test_base64_that_is_odd_or_damaged_is_broken_in_any_pieces(
    spool: Spool, folder: Path, text: str, size: int
) -> None:
    assert isinstance(refused(spool, cut(body_of(text), size)), BrokenAnswer)
    assert list(folder.iterdir()) == []


def test_what_follows_padding_is_damage_also_in_a_piece_of_its_own(spool: Spool) -> None:
    body = body_of('"AA==AAAA"')
    place = body.index(b"==") + 2
    assert isinstance(refused(spool, [body[:place], body[place:]]), BrokenAnswer)


@pytest.mark.parametrize("keep", [0, 1, 20, 0.3, 0.9, -1])
def test_half_an_answer_is_broken_and_leaves_no_file(spool: Spool, folder: Path, keep: float) -> None:
    body = standin_body("thoughts")
    count = int(len(body) * keep) if isinstance(keep, float) else keep % len(body)
    assert isinstance(refused(spool, cut(body[:count], 100)), BrokenAnswer)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("body", [b"", b"<!doctype html><p>Sign in", b"{", b'{"a":1}}', b"\xff\xfe", b'{"a":"\xff"}'])
def test_what_is_no_json_is_broken(spool: Spool, body: bytes) -> None:
    assert isinstance(refused(spool, [body]), BrokenAnswer)


@pytest.mark.parametrize("size", [1, 64 * KIB])
def test_an_image_may_have_exactly_its_limit_and_no_byte_more(spool: Spool, folder: Path, size: int) -> None:
    assert read(spool, cut(body_of(encoded(PICTURE)), size), image=len(PICTURE))[1] == [PICTURE]
    too_large = refused(spool, cut(body_of(encoded(PICTURE)), size), image=len(PICTURE) - 1)
    assert isinstance(too_large, AnswerTooLarge)
    assert list(folder.iterdir()) == []


def test_an_image_without_end_is_refused_before_it_fills_the_disk(spool: Spool, folder: Path) -> None:
    reader = make_reader(spool, image=100 * KIB)
    reader.feed(b'{"data":"')
    fed = feed_until_refused(reader, b"AAAA" * KIB)
    assert fed <= 100 * KIB * 4 // 3 + 4 * KIB
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 100 * KIB
    reader.discard()
    assert list(folder.iterdir()) == []


def test_what_stands_around_the_images_has_its_limit(spool: Spool) -> None:
    text = "x" * 2000
    assert read(spool, cut(body_of(encoded(PICTURE), text=text), 100), rest=3000)[1] == [PICTURE]
    assert isinstance(refused(spool, cut(body_of(encoded(PICTURE), text=text), 100), rest=1500), AnswerTooLarge)
    assert isinstance(refused(spool, [b" " * KIB] * 10, rest=5 * KIB), AnswerTooLarge)


def test_the_number_of_images_has_its_limit(spool: Spool, folder: Path) -> None:
    body = b'{"parts":[%s]}' % b",".join([b'{"data":"AAAA"}'] * 5)
    assert len(read(spool, cut(body, 7), images=5)[1]) == 5
    assert isinstance(refused(spool, cut(body, 7), images=4), AnswerTooLarge)
    assert list(folder.iterdir()) == []


def test_discard_removes_finished_and_unfinished_files_and_may_be_repeated(spool: Spool, folder: Path) -> None:
    reader = make_reader(spool)
    reader.feed(b'{"a":{"data":"AAAA"},"b":{"data":"AAAA')
    reader.flush()
    assert len(list(folder.iterdir())) == 2
    reader.discard()
    reader.discard()
    assert list(folder.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that fills up: the write that crosses the limit is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_and_never_half_an_image(spool: Spool, folder: Path) -> None:
    with files_of_at_most(100_000), pytest.raises(OSError, match="too large"):
        refused(spool, [body_of(encoded(bytes(150_000)))])
    assert list(folder.iterdir()) == []


def test_a_20_mb_image_in_64_kib_pieces_needs_less_than_a_megabyte(spool: Spool) -> None:
    size = 20_000_000
    text = base64.b64encode(random.Random(2).randbytes(48 * KIB))
    reader = make_reader(spool)
    tracemalloc.start()
    try:
        reader.feed(b'{"candidates":[{"inlineData":{"data":"')
        for _ in range(size // (48 * KIB)):
            reader.feed(text)
            if reader.unwritten > 256 * KIB:
                reader.flush()
        reader.feed(b'"}}],"end":true}')
        answer, payloads = reader.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert payloads[0].size == size // (48 * KIB) * 48 * KIB
    assert answer == {"candidates": [{"inlineData": {"data": 0}}], "end": True}
    assert peak < 1_000_000
    reader.discard()
