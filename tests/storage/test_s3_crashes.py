"""An API process that dies between two steps, over a bucket: the worker finishes it or clears it away."""

import httpx
import pytest

from services.storage.names import record_key, stem_of
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.installation import Installation, eventually

BRIEF = {"REQUEST_TIMEOUT_SECONDS": "2", "RESERVATION_GRACE_SECONDS": "1", "TRIAL_GUEST_SHARE": "1"}
SETTLED_SECONDS = 40  # the sweep comes every 5 s, from a worker that may have to start first


@pytest.mark.parametrize(("place", "kept"), [("bytes_stored", 0), ("record_stored", 1)])
def test_what_a_dead_process_left_in_the_bucket(
    installation: Installation, moto: BucketServer, place: str, kept: int
) -> None:
    bucket = moto.new_bucket()
    installation.start(FAIL_POINT=place, **BRIEF, **bucket_settings(moto.url, bucket))
    with httpx.Client(base_url=installation.url, timeout=60) as client:
        tokens = client.post("/api/auth/guest", json={}).json()
        client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.post("/api/generate/basic", json={"prompt": "a lighthouse"})

        def settled() -> bool:
            used = client.get("/api/quota").json()["global"]["used"]
            total = client.get("/api/history").json()["total"]
            keys = moto.keys(bucket, "users/")
            return (used, total, len(keys)) == (kept, kept, 2 * kept)

        assert eventually(settled, SETTLED_SECONDS), (client.get("/api/quota").json(), moto.keys(bucket))
        for item in client.get("/api/history").json()["items"]:
            image = client.get(item["image_url"])
            assert (image.status_code, len(image.content)) == (200, item["size"])
            (key,) = [key for key in moto.keys(bucket, "users/") if not key.endswith(".json")]
            assert record_key(stem_of(key)) in moto.keys(bucket)
