"""Bodies with images: whatever is wrong is named by its place, costs nothing and leaves no file."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api.uploads.form_reader import FormReader
from api.uploads.json_reader import MAX_REST_BYTES, JsonReader
from tests.api.asking import reasons
from tests.conftest import OpenService
from tests.providers.upstream import file_instead_of
from tests.references import pictures
from tests.references.asking import BLEND, blend, blend_form, made
from tests.references.pictures import data_url, picture, text_of
from tests.support.answers import error_of, fields_of
from tests.support.service import Guest, RunningService

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=xyz"}
IMAGE = text_of(picture())


@pytest.fixture
async def guest(service: RunningService) -> Guest:
    return await service.guest()


async def test_every_field_of_blend_is_checked(service: RunningService, guest: Guest) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("prompt", None, "wrong_type"),
        ("prompt", " ", "blank"),
        ("prompt", "x" * 4001, "too_long"),
        ("prompt", "a\0b", "bad_text"),
        ("images", None, "wrong_type"),
        ("images", IMAGE, "wrong_type"),
        ("images", {}, "wrong_type"),
        ("images", [], "blank"),
        ("mode", "edit", "not_allowed"),
        ("aspect_ratio", "7:3", "not_supported"),
        ("aspect_ratio", None, "wrong_type"),
        ("safety_level", "all", "not_allowed"),
        ("provider", "nobody", "not_allowed"),
        ("model", "none-such", "not_allowed"),
        ("resolution", "2K", "unknown_field"),
        ("seed", 1, "unknown_field"),
        ("save_to_history", "true", "wrong_type"),
        ("include_base64", 1, "wrong_type"),
    ]
    for name, value, reason in wrong:
        response = await guest.client.post(BLEND, json={"prompt": "a", "images": [IMAGE]} | {name: value})
        assert reasons(response) == {name: reason}, (name, value)
    assert reasons(await guest.client.post(BLEND, json={"images": [IMAGE, 5, [IMAGE]]})) == {
        "prompt": "missing", "images.1": "wrong_type", "images.2": "wrong_type",
    }  # fmt: skip
    assert reasons(await guest.client.post(BLEND, json={"prompt": "a"})) == {"images": "missing"}
    assert spooled(service) == []
    assert await guest.used() == 0


async def test_text_that_is_no_image_is_named_by_its_index(service: RunningService, guest: Guest) -> None:
    wrong = {
        "not base64!": "bad_base64",
        "QUJD=QUJD": "bad_base64",
        IMAGE[:-3]: "bad_base64",
        IMAGE + "=": "bad_base64",
        f" {IMAGE}": "bad_base64",
        "data:image/png;base64," + "%" * 1000: "bad_base64",
        "https://example.com/a.png": "bad_base64",
        f"data:image/png,{IMAGE}": "bad_data_url",
        f"data:text/html;base64,{IMAGE}": "bad_data_url",
        "data:image/png;base64": "bad_data_url",
        "data:" + "x" * 5000: "bad_data_url",
    }
    for text, reason in wrong.items():
        response = await guest.client.post(BLEND, json={"prompt": "a", "images": [IMAGE, text]})
        assert reasons(response) == {"images.1": reason}, text[:40]
    assert spooled(service) == []


async def test_what_was_on_the_disk_already_goes_with_the_rest(service: RunningService, guest: Guest) -> None:
    large = pictures.png_claiming(100, 100, bytes(2_000_000))
    for response in (
        await guest.client.post(BLEND, json={"prompt": "a", "images": [text_of(large), "not base64!"]}),
        await guest.client.post(BLEND, json={"images": [text_of(large)]}),
        await blend_form(guest, large, promt="a"),
        await guest.client.post(BLEND, json={"images": [text_of(large)]}, headers={"Idempotency-Key": "a b"}),
    ):
        assert response.status_code == 422
        assert spooled(service) == []
    assert (await blend_form(guest, large, b"text")).status_code == 400
    assert spooled(service) == []


async def test_a_disk_that_is_broken_is_said_to_be(service: RunningService, guest: Guest) -> None:
    for image in (picture(), pictures.png_claiming(100, 100, bytes(2_000_000))):
        with file_instead_of(service.data_dir / "spool"):
            for response in (await blend(guest, image), await blend_form(guest, image)):
                error_of(response, 503, "STORAGE_UNAVAILABLE")
    assert await guest.used() == 0
    assert spooled(service) == []


def animation_without_a_sound_frame(kind: str) -> bytes:
    broken = bytearray(pictures.animation(kind, 3))
    if kind == "GIF":
        start = broken.index(b"\x2c") + 10
        return bytes(broken[:start] + b"\x0d" + broken[start + 1 :])  # more bits to a code than there can be
    broken[broken.index(b"VP8", broken.index(b"ANMF")) + 14] ^= 0x08  # of another size than its frame
    return bytes(broken)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
async def test_an_animation_without_a_sound_frame_is_refused(service: RunningService, guest: Guest, kind: str) -> None:
    broken = animation_without_a_sound_frame(kind)
    (field,) = error_of(await blend(guest, picture(), broken), 400, "UNSUPPORTED_IMAGE")["details"]["fields"]
    assert (field["field"], field["reason"]) == ("images.1", "image_damaged")
    assert spooled(service) == []


async def test_an_empty_image_is_told_apart(guest: Guest) -> None:
    for response in (await blend(guest, picture(), b""), await blend_form(guest, picture(), b"")):
        (field,) = error_of(response, 400, "UNSUPPORTED_IMAGE")["details"]["fields"]
        assert (field["field"], field["reason"]) == ("images.1", "image_empty")


async def test_a_place_holder_cannot_be_guessed(guest: Guest) -> None:
    response = await guest.client.post(BLEND, json={"prompt": "a", "im\\u0061ges": [], "images": [IMAGE, "0"]})
    assert reasons(response).get("images.1") == "bad_base64"
    response = await guest.client.post(BLEND, json={"prompt": "a", "images": [0]})
    assert reasons(response) == {"images.0": "wrong_type"}


async def test_a_body_that_is_no_json_is_refused(service: RunningService, guest: Guest) -> None:
    bodies: dict[bytes, str] = {
        b"": "missing",
        b"{": "bad_json",
        b"null": "wrong_type",
        b"[]": "wrong_type",
        b'"images"': "wrong_type",
        b'{"images": ["': "bad_json",
        b'{"images": ["' + IMAGE.encode(): "bad_json",
        b'{"images": ["%b"' % IMAGE.encode(): "bad_json",
        b'{"images": ["%b",]}' % IMAGE.encode(): "bad_json",
        b'{"images": [,"%b"]}' % IMAGE.encode(): "bad_json",
        b'{"images": ["%b" "%b"]}' % (IMAGE.encode(), IMAGE.encode()): "bad_json",
        b'{"prompt": "\xff"}': "bad_json",
        b"[" * 5000: "bad_json",
    }
    for content, reason in bodies.items():
        response = await guest.client.post(BLEND, content=content, headers=JSON)
        assert reasons(response) == {"body": reason}, content[:60]
    assert spooled(service) == []


async def test_a_body_that_is_no_form_is_refused(service: RunningService, guest: Guest) -> None:
    part = b'--xyz\r\nContent-Disposition: form-data; name="images"\r\n\r\n' + picture()
    bodies = (
        b"", b"{}", b"--xyz", part, part + b"\r\n--xyz", b"--abc" + part[5:] + b"\r\n--abc--",
        b'--xyz\r\nContent-Type: image/png\r\n\r\nx\r\n--xyz--',
        b'--xyz\r\nContent-Disposition: form-data; name=""\r\n\r\nx\r\n--xyz--',
        b"--xyz\r\n" + b"X-A: b\r\n" * 5000 + b"\r\nx\r\n--xyz--",
        b"--xyz\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\nx\r\n--xyz--",
        b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 65 + b"--xyz--",
    )  # fmt: skip
    for content in bodies:
        response = await guest.client.post(BLEND, content=content, headers=FORM)
        assert reasons(response) == {"body": "bad_multipart"}, content[:60]
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=", f"{FORM['content-type']}{'x' * 500}"):
        response = await guest.client.post(BLEND, content=part, headers={"content-type": content_type})
        assert reasons(response) == {"body": "bad_multipart"}, content_type
    assert spooled(service) == []


async def test_another_content_type_is_refused_by_its_name(guest: Guest) -> None:
    for content_type in ("application/x-www-form-urlencoded", "image/png", "multipart/mixed; boundary=xyz", ""):
        response = await guest.client.post(BLEND, content=picture(), headers={"content-type": content_type})
        field = fields_of(response)["body"]
        assert (field["reason"], field["hint"]) == ("content_type", "application/json, multipart/form-data")


async def test_unknown_fields_of_a_form_are_refused_by_name(guest: Guest) -> None:
    assert reasons(await blend_form(guest, picture(), promt="a")) == {"promt": "unknown_field"}
    odd = (b'--xyz\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--xyz--', "bad_text")
    assert reasons(await guest.client.post(BLEND, content=odd[0], headers=FORM)) == {"prompt": odd[1]}


async def test_an_image_over_the_limit_is_refused_while_it_arrives(open_service: OpenService) -> None:
    service = await open_service(MAX_IMAGE_BYTES="5000")
    guest = await service.guest()
    large = pictures.png_claiming(100, 100, bytes(5000))
    for send in (blend, blend_form):
        error = error_of(await send(guest, picture(), large), 413, "PAYLOAD_TOO_LARGE")
        (field,) = error["details"]["fields"]
        assert (field["field"], field["reason"], field["limit"]) == ("images.1", "image_bytes", 5000)
        assert error["details"]["limit"] == 5000
        assert field["message"] == "is too large: at most 5000 bytes"
    assert spooled(service) == []
    fits = pictures.png_claiming(100, 100, bytes(5000 - len(pictures.png_claiming(100, 100, b""))))
    assert len(fits) == 5000
    assert (await blend_form(guest, fits, prompt="a [demo:fail=safety]")).json()["error"]["code"] == "CONTENT_BLOCKED"


async def test_a_body_over_the_limit_of_all_is_refused_whatever_its_images(open_service: OpenService) -> None:
    service = await open_service(MAX_REQUEST_BYTES="100000")
    guest = await service.guest()
    url = guest.client.base_url
    head = (
        f"POST {BLEND} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {guest.tokens['access_token']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b'{"prompt": "a", "images": ["' + b"QUJD" * 25_000
    reader, writer = await asyncio.open_connection(url.host, url.port)
    # The body has no end: an answer can only come from somebody who does not wait for it.
    writer.write(head.encode() + b"%x\r\n" % len(body) + body + b"\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"limit":100000}' in answer
    assert spooled(service) == []


async def test_the_limit_of_pixels_is_the_operators(open_service: OpenService) -> None:
    guest = await (await open_service(MAX_IMAGE_PIXELS="3071")).guest()
    (field,) = error_of(await blend(guest, picture()), 400, "UNSUPPORTED_IMAGE")["details"]["fields"]
    assert (field["reason"], field["limit"]) == ("image_pixels", 3071)


async def test_what_stands_beside_the_images_has_a_limit_of_its_own(service: RunningService, guest: Guest) -> None:
    filling = " " * MAX_REST_BYTES
    for response in (
        await blend(guest, picture(), prompt="a" + filling),
        await blend_form(guest, picture(), prompt="a" + filling),
    ):
        assert error_of(response, 413, "PAYLOAD_TOO_LARGE")["details"]["limit"] == MAX_REST_BYTES
    assert spooled(service) == []


async def test_what_is_wrong_is_said_in_both_languages(guest: Guest) -> None:
    body = {"prompt": "a", "images": [text_of(b"text")]}
    found = {}
    for language in ("en", "zh"):
        response = await guest.client.post(BLEND, json=body, headers={"Accept-Language": language})
        error = error_of(response, 400, "UNSUPPORTED_IMAGE")
        (field,) = error["details"]["fields"]
        assert field["allowed"] == ["image/jpeg", "image/png", "image/webp", "image/gif"]
        found[language] = (error["message"], field["message"])
    assert found["en"][1] == "is not an image that we take; the allowed formats are listed"
    assert all(en != zh for en, zh in zip(found["en"], found["zh"], strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
async def test_it_does_not_matter_in_which_pieces_a_body_comes(service: RunningService, size: int) -> None:
    images = [picture(), picture("JPEG"), b"", pictures.plain((1, 2, 3), (1, 1))]
    texts = ", ".join(f'"{text}"' for text in (text_of(images[0]), data_url(images[1]).replace("/", "\\/"), "",
                                                 data_url(images[3])))  # fmt: skip
    json_body = f'{{"prompt": "say \\"images\\": [\\"x\\"]", "images" : [ {texts} ], "mode": "blend"}}'.encode()
    form_body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, content)
        for name, content in (
            (b"prompt", b"\r\n--xy"), *((b"images", image) for image in images), (b"mode", b"blend"),
        )
    )  # fmt: skip
    for body, is_json in ((json_body, True), (form_body + b"--xyz--\r\n", False)):
        uploads = service.container.references.uploads()
        reader = JsonReader(uploads, single=False) if is_json else FormReader(uploads, b"xyz", single=False)
        for start in range(0, len(body), size):
            reader.feed(body[start : start + size])
        fields = reader.finish()
        order = [uploads.index_of(text) for text in fields["images"]]
        assert order == [0, 1, 2, 3]
        paths = await uploads.finish([0, 1, 2, 3])
        assert [read(path) for path in paths] == images
        assert fields["prompt"] == ('say "images": ["x"]' if is_json else "\r\n--xy")
        assert fields["mode"] == "blend"


async def test_images_given_twice_leave_no_file(service: RunningService, guest: Guest) -> None:
    images = f'"images": ["{IMAGE}", "{IMAGE}"], "images": ["{IMAGE}"]'
    body = f'{{"prompt": "a [demo:fail=safety]", {images}}}'
    response = await guest.client.post(BLEND, content=body, headers=JSON)
    error_of(response, 400, "CONTENT_BLOCKED")
    assert spooled(service) == []


async def test_many_at_once_do_not_mix(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="1000")
    guest = await service.guest()
    colours = [(value, 255 - value, 90) for value in range(0, 250, 50)]
    answers = await asyncio.gather(
        *(blend(guest, pictures.plain(colour), include_base64=True) for colour in colours)
    )  # fmt: skip
    for colour, answer in zip(colours, answers, strict=True):
        data = made(answer)
        image = pictures.opened((await guest.client.get(data["image_url"])).content).convert("RGB")
        assert image.getpixel((672, 600)) == colour
    assert spooled(service) == []


def read(path: Path) -> bytes:
    return path.read_bytes()


def spooled(service: RunningService) -> list[Path]:
    return list((service.data_dir / "spool").iterdir())
