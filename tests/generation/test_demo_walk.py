"""The main job, as a person with no key sees it."""

import io

from PIL import Image

from tests.support.service import RunningService


async def test_a_guest_generates_keeps_and_is_metered(service: RunningService) -> None:
    guest = await service.guest()
    data = await guest.image("a lighthouse at dusk", aspect_ratio="16:9")

    response = await service.client.get(data["image_url"])
    assert response.status_code == 200
    picture = Image.open(io.BytesIO(response.content))
    assert picture.width * 9 == picture.height * 16
    assert (picture.width, picture.height) == (data["width"], data["height"])

    history = await guest.history()
    assert [item["id"] for item in history["items"]] == [data["history_id"]]
    assert history["items"][0]["prompt"] == "a lighthouse at dusk"
    assert await guest.used() == 1
