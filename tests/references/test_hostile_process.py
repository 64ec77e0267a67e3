"""Hostile images against a real server process: refused for the right reason, and its memory hardly moves."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY
from tests.references import pictures
from tests.references.asking import BLEND
from tests.support.answers import error_of
from tests.support.installation import Installation, named

log = logging.getLogger(__name__)

MIB = 1024 * 1024
MEMORY = 50 * MIB

# What is sent, the code, and the reason of the last image.
HOSTILE: dict[str, tuple[Callable[[], list[bytes]], str, str]] = {
    "a text file called PNG": (lambda: [b"just text\n" * 100], "UNSUPPORTED_IMAGE", "image_format"),
    "an SVG": (lambda: [pictures.SVG], "UNSUPPORTED_IMAGE", "image_format"),
    "an empty file": (lambda: [b""], "UNSUPPORTED_IMAGE", "image_empty"),
    "a truncated image": (lambda: [pictures.picture("JPEG", (900, 700))[:-99]], "UNSUPPORTED_IMAGE", "image_truncated"),
    "a PNG of 20,000 x 20,000": (lambda: [pictures.png_bomb()], "UNSUPPORTED_IMAGE", "image_pixels"),
    "a GIF of 10,000 frames": (lambda: [pictures.gif_of(10_000)], "UNSUPPORTED_IMAGE", "image_frames"),
    "a polyglot": (lambda: [pictures.picture() + pictures.ZIP], "UNSUPPORTED_IMAGE", "image_trailing_data"),
    "15 images": (lambda: [pictures.picture()] * 15, "VALIDATION_ERROR", "too_long"),
    "15 large images": (lambda: [pictures.png_claiming(9, 9, bytes(3 * MIB))] * 15, "VALIDATION_ERROR", "too_long"),
    "an image of 21 MiB": (lambda: [pictures.png_claiming(9, 9, bytes(21 * MIB))], "PAYLOAD_TOO_LARGE", "image_bytes"),
    "20 MiB of crumbs": (lambda: [pictures.gif_of_crumbs(20 * MIB - 99)], "UNSUPPORTED_IMAGE", "image_intricate"),
    "two times 20 MiB behind an image": (
        lambda: [pictures.picture() + bytes(20 * MIB - 9999)] * 2, "UNSUPPORTED_IMAGE", "image_trailing_data",
    ),
    "20 MiB of filling": (
        lambda: [pictures.picture("JPEG")[:-2] + b"\xff" * (19 * MIB)], "UNSUPPORTED_IMAGE", "image_damaged",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    service = Installation(tmp_path_factory.mktemp("hostile"))
    yield service
    service.clean_up()


@pytest.fixture(scope="module")
def server(installation: Installation, gemini_server: GeminiStandin) -> Iterator[tuple[httpx.Client, int]]:
    """A client that is signed in, and the process that serves it."""
    gemini_server.reset()
    gemini_server.configure(pixels=(64, 64))
    leader = installation.start(
        RATE_LIMIT_REQUESTS="10000", TRIAL_COOLDOWN_SECONDS="0", GOOGLE_API_KEY=OPERATOR_KEY,
        GOOGLE_GEMINI_BASE_URL=gemini_server.url,
    )  # fmt: skip
    (api,) = named(leader, "nbl-api")
    tokens = httpx.post(f"{installation.url}/api/auth/guest", json={}).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    with httpx.Client(base_url=installation.url, headers=headers, timeout=60) as client:
        # What the first use of a part takes is not what an image takes.
        for send in (send_form, send_json):
            response = send(client, [pictures.plain(pictures.RED)])
            assert response.status_code == 200, response.text
        yield client, api.pid


def send_form(client: httpx.Client, images: list[bytes]) -> httpx.Response:
    return client.post(BLEND, data={"prompt": "a"}, files=[("images", ("photo.png", image)) for image in images])


def send_json(client: httpx.Client, images: list[bytes]) -> httpx.Response:
    return client.post(BLEND, json={"prompt": "a", "images": [pictures.text_of(image) for image in images]})


def resident(pid: int, name: str) -> int:
    """`VmRSS`, or its peak `VmHWM`, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("send", [send_form, send_json])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_refused_within_the_memory_that_it_may_take(
    server: tuple[httpx.Client, int], installation: Installation, name: str,
    send: Callable[[httpx.Client, list[bytes]], httpx.Response],
) -> None:  # fmt: skip
    client, pid = server
    make, code, reason = HOSTILE[name]
    images = make()
    forget_peak(pid)
    before = resident(pid, "VmRSS")
    started = time.perf_counter()
    response = send(client, images)
    seconds = time.perf_counter() - started
    grown = resident(pid, "VmHWM") - before

    error = error_of(response, response.status_code, code)
    field = error["details"]["fields"][-1]
    assert field["reason"] == reason
    assert grown < MEMORY
    assert list((installation.data / "spool").iterdir()) == []
    log.info("%s, %s: %.3f s, %.1f MiB", name, send.__name__, seconds, grown / MIB)


def test_the_first_frame_of_a_wide_animation_is_not_decoded(
    server: tuple[httpx.Client, int], gemini_server: GeminiStandin
) -> None:
    """150 bytes that a decoder would need 400 MB for."""
    client, pid = server
    images = [pictures.wide_animation()]
    forget_peak(pid)
    before = resident(pid, "VmRSS")
    response = send_form(client, images)
    grown = resident(pid, "VmHWM") - before
    assert response.status_code == 200, response.text
    assert grown < MEMORY


@pytest.mark.parametrize("send", [send_form, send_json])
def test_fourteen_large_images_go_to_the_provider_in_the_memory_of_one_piece(
    server: tuple[httpx.Client, int], installation: Installation, gemini_server: GeminiStandin,
    send: Callable[[httpx.Client, list[bytes]], httpx.Response],
) -> None:  # fmt: skip
    """42 MiB of images, 56 MiB of text on the way in and on the way out."""
    client, pid = server
    gemini_server.clear_requests()
    images = [pictures.png_claiming(64, 64, bytes(3 * MIB))] * 14
    forget_peak(pid)
    before = resident(pid, "VmRSS")
    response = send(client, images)
    grown = resident(pid, "VmHWM") - before
    log.info("14 images, %s: %.1f MiB", send.__name__, grown / MIB)
    assert response.status_code == 200, response.text
    assert gemini_server.stats()["total"] == 1
    assert grown < MEMORY
    assert list((installation.data / "spool").iterdir()) == []
