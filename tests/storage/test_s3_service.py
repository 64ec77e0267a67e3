"""The whole service over a bucket: generating, showing, deleting, sweeping; one bucket or two; local copies."""

import os
import time
from pathlib import Path
from urllib.parse import unquote

import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.storage.names import record_key, stem_of
from services.storage.owner import OWNER_KEY
from services.worker import clean_copies
from tests.chat.talking import begin, bytes_of, inline, say, told, without_signature
from tests.conftest import OpenService
from tests.faults.histories import next_run, retain, work_and_die
from tests.history.shelf import WIDE, retained, set_columns
from tests.references.pictures import picture
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.parts import open_parts
from tests.support.service import RunningService

CACHING = "public, max-age=31536000, immutable"


async def open_over(
    open_service: OpenService, gemini: GeminiStandin, url: str, bucket: str, **more: str
) -> RunningService:
    gemini.configure(pixels=(640, 480))
    return await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, **WIDE, **bucket_settings(url, bucket, **more))


def image_key(server: BucketServer, bucket: str, prefix: str = "users/") -> str:
    """Of the only image there."""
    (key,) = [key for key in server.keys(bucket, prefix) if key.endswith(".png")]
    return key


async def test_an_image_is_stored_shown_and_deleted(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket)
    guest = await service.guest()
    made = await guest.image("a lighthouse", include_base64=True)
    key = image_key(moto, bucket)
    stored = moto.s3.get_object(Bucket=bucket, Key=key)
    data = stored["Body"].read()
    assert (stored["ContentType"], stored["CacheControl"]) == ("image/png", CACHING)
    assert stored["Metadata"]["image-id"] == made["history_id"]
    assert record_key(stem_of(key)) in moto.keys(bucket)

    shown = await service.client.get(made["image_url"])
    assert (shown.status_code, shown.content) == (200, data)
    part = await service.client.get(made["image_url"], headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, data[100:300])
    unchanged = await service.client.get(made["image_url"], headers={"If-None-Match": shown.headers["etag"]})
    assert unchanged.status_code == 304
    small = await service.client.get(made["thumbnail_url"])
    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")
    assert (await guest.history())["items"][0]["id"] == made["history_id"]

    gone = await guest.client.delete(f"/api/history/{made['history_id']}", params={"final": "true"})
    assert gone.status_code == 200
    assert [key for key in moto.keys(bucket) if not key.startswith("logs/")] == [OWNER_KEY]
    assert (await service.client.get(made["image_url"])).status_code == 404
    assert list((service.data_dir / "spool").iterdir()) == []
    assert not service.storage_dir.exists()


async def test_bytes_that_are_gone_from_the_bucket_are_not_found(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket)
    made = await (await service.guest()).image()
    moto.s3.delete_object(Bucket=bucket, Key=image_key(moto, bucket))
    assert (await service.client.get(made["image_url"])).status_code == 404


@pytest.mark.parametrize("prompt", ["可爱的猫 🐈 \n two lines", "灯" * 500, "a lighthouse & 100 % more"])
async def test_any_prompt_is_kept_beside_the_object(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, prompt: str
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket)
    await (await service.guest()).image(prompt)
    key = image_key(moto, bucket)
    kept = moto.s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    assert len(kept["prompt"]) <= 1024
    assert prompt.startswith(unquote(kept["prompt"]))
    assert unquote(kept["prompt"])
    assert kept["aspect-ratio"] == "16:9"
    assert await service.container.storage.metadata(key) == kept


async def test_metadata_of_the_old_app_is_read_in_its_own_spelling(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket, key = moto.new_bucket(), "users/0123456789abcdef/2025/01/02/basic_101112_cat_a1b2c3.png"
    old = {"aspect_ratio": "1:1", "created_at": "2025-01-02T10:11:12", "prompt": "a%20cat"}
    moto.s3.put_object(Bucket=bucket, Key=key, Body=b"x", Metadata=old)
    service = await open_over(open_service, gemini, moto.url, bucket)
    assert await service.container.storage.metadata(key) == {
        "aspect-ratio": "1:1", "created-at": "2025-01-02T10:11:12", "prompt": "a%20cat",
    }  # fmt: skip


async def test_a_public_bucket_holds_images_alone_and_is_linked_to(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    public, private = moto.new_bucket(), moto.new_bucket()
    address = "https://images.example.org/a"
    more = {"R2_PUBLIC_URL": f"{address}/", "R2_PRIVATE_BUCKET_NAME": private, "AUDIT_LOGGING_ENABLED": "true"}
    service = await open_over(open_service, gemini, moto.url, public, **more)
    guest = await service.guest()
    made = await guest.image()
    assert (await service.client.get(made["thumbnail_url"])).status_code == 200
    key = image_key(moto, public)
    assert made["image_url"] == f"{address}/{key}"
    assert (await guest.history())["items"][0]["image_url"] == f"{address}/{key}"
    assert made["thumbnail_url"].startswith(service.url)
    assert {Path(key).suffix for key in moto.keys(public)} == {".png", ".webp"}
    assert {Path(key).suffix for key in moto.keys(private)} == {".json"}
    assert {key.partition("/")[0] for key in moto.keys(private)} == {"users", "logs", "config"}
    policy = (await service.client.get("/")).headers["content-security-policy"]
    assert "img-src 'self' data: blob: https://images.example.org;" in policy, "the page may show them"
    own = await guest.client.get(f"/api/images/{made['history_id']}")
    assert own.status_code == 200

    gone = await guest.client.delete(f"/api/history/{made['history_id']}", params={"final": "true"})
    assert gone.status_code == 200
    assert moto.keys(public) == moto.keys(private, "users/") == []


async def test_what_came_with_messages_of_a_chat_is_in_no_public_bucket(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    public, private = moto.new_bucket(), moto.new_bucket()
    more = {"R2_PUBLIC_URL": "https://images.example.org", "R2_PRIVATE_BUCKET_NAME": private}
    guest = await (await open_over(open_service, gemini, moto.url, public, **more)).guest()
    chat_id, photo = await begin(guest), picture("JPEG")
    first = await say(guest, chat_id, "a boat", photo)
    assert first["image_url"].startswith("https://images.example.org/users/")
    await say(guest, chat_id, "a red boat")
    user, model, _ = told(gemini)
    assert user["parts"][1] == inline(photo, "image/jpeg")
    assert without_signature(model["parts"][0]) == inline(await bytes_of(guest, first))
    assert moto.keys(public, "chats/") == []
    assert len(moto.keys(private, f"chats/{chat_id}/")) == 3
    assert (await guest.client.delete(f"/api/chat/sessions/{chat_id}")).status_code == 200
    assert moto.keys(private, "chats/") == []


async def test_what_was_stored_before_there_were_two_buckets_is_still_read_and_deleted(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    public, private = moto.new_bucket(), moto.new_bucket()
    for bucket, key, text in [(public, "users/a/1.json", b"old"), (public, "users/a/2.json", b"older"),
                              (private, "users/a/2.json", b"new"), (public, "users/a/1.png", b"image")]:  # fmt: skip
        moto.s3.put_object(Bucket=bucket, Key=key, Body=text)
    more = {"R2_PUBLIC_URL": "https://images.example.org", "R2_PRIVATE_BUCKET_NAME": private}
    storage = (await open_over(open_service, gemini, moto.url, public, **more)).container.storage
    assert await storage.get("users/a/1.json") == b"old"
    assert await storage.get("users/a/2.json") == b"new"
    found = [(info.key, info.size) async for info in storage.list("users/")]
    assert found == [("users/a/1.json", 3), ("users/a/1.png", 5), ("users/a/2.json", 3)]
    await storage.delete("users/a/2.json")
    assert moto.keys(public) == ["users/a/1.json", "users/a/1.png"]
    assert moto.keys(private, "users/") == []


async def test_what_a_dead_process_left_is_finished_or_cleared_away(
    redis_url: str, empty_database: Path, tmp_path: Path, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    environment = {
        "DATA_DIR": str(tmp_path / "data"), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0",
        "REQUEST_TIMEOUT_SECONDS": "1", "RESERVATION_GRACE_SECONDS": "0", **bucket_settings(moto.url, bucket),
    }  # fmt: skip
    async with open_parts(environment, empty_database) as parts:
        whole, bytes_alone = await parts.reserve(), await parts.reserve()
        await parts.store(whole)
        await parts.store(bytes_alone)
        moto.s3.delete_object(Bucket=bucket, Key=record_key(bytes_alone.note))
        await parts.until_expired(2)
        assert await parts.recovery.sweep() == 2
        day = whole.day
        assert (await parts.ledger(day)).pool == 1 == (await parts.counters(day)).pool
    kept = {record_key(whole.note), f"{whole.note}.png"}
    assert set(moto.keys(bucket, "users/")) == kept


async def test_a_local_copy_is_read_first_and_the_bucket_is_the_truth(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, proxy: FaultProxy
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, proxy.url, bucket, LOCAL_RETENTION_DAYS="2")
    guest = await service.guest()
    made = await guest.image()
    data = (await service.client.get(made["image_url"])).content
    await service.client.get(made["thumbnail_url"])
    copies = service.data_dir / "copies"
    files = sorted(path for path in copies.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".png", ".webp"}
    key = image_key(moto, bucket)
    assert (copies / key).read_bytes() == data == moto.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    await proxy.go_away()
    assert (await service.client.get(made["image_url"])).content == data
    assert (await service.client.get(made["thumbnail_url"])).status_code == 200
    await proxy.listen()

    long_ago = time.time() - 2 * 86_400 - 60
    for path in files:
        os.utime(path, (long_ago, long_ago))
    young = copies / "users" / "a" / "young.png"
    young.parent.mkdir()
    young.write_bytes(b"x")
    assert await clean_copies({"container": service.container}) == 2
    assert [path for path in copies.rglob("*") if path.is_file()] == [young]
    assert not (copies / key).parent.exists()
    assert (await service.client.get(made["image_url"])).content == data


async def test_deleting_takes_the_local_copy_too(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket, LOCAL_RETENTION_DAYS="2")
    guest = await service.guest()
    made = await guest.image()
    await service.client.get(made["thumbnail_url"])
    await guest.client.delete(f"/api/history/{made['history_id']}", params={"final": "true"})
    assert [path for path in (service.data_dir / "copies").rglob("*") if path.is_file()] == []


async def test_a_disk_that_takes_no_copies_costs_nothing_but_speed(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket, LOCAL_RETENTION_DAYS="2")
    (service.data_dir / "copies").rmdir()
    (service.data_dir / "copies").write_bytes(b"")
    guest = await service.guest()
    made = await guest.image()
    assert (await service.client.get(made["image_url"])).status_code == 200
    assert await guest.used() == 1


async def test_the_health_report_names_the_bucket(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    service = await open_over(open_service, gemini, moto.url, moto.new_bucket())
    report = (await service.client.get("/api/health/detailed")).json()
    part = report["components"]["r2_storage"]
    assert (part["status"], part["backend"]) == ("healthy", "s3")


async def test_the_audit_log_is_in_the_bucket(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, moto.url, bucket)
    await (await service.guest()).image()
    (key,) = moto.keys(bucket, "logs/content_moderation/")
    entry = orjson.loads(moto.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert "prompt" not in entry


async def test_a_retention_run_asks_the_bucket_a_few_times_for_all(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, proxy: FaultProxy, redis_url: str
) -> None:
    """The bucket away, then a worker that dies over it, then a run to the end."""
    bucket = moto.new_bucket()
    settings = {"MAX_STORAGE_GB": "0.000000005", "REDIS_URL": redis_url, "LOCAL_RETENTION_DAYS": "2"}
    service = await open_over(open_service, gemini, proxy.url, bucket, **settings)
    guest = await service.guest()
    made = [(await guest.image())["history_id"] for _ in range(12)]
    for image_id in made:
        assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 200
        set_columns(service, image_id, size=1)
    whole = moto.keys(bucket)

    proxy.faults = [Fault("answer", "POST", status=403, code="AccessDenied")]
    report = await service.container.retention.run()
    assert report is not None
    assert "AccessDenied" in report.failure
    assert (report.total.images, moto.keys(bucket)) == (0, whole)
    assert (await guest.history())["total"] == 5, "they are not shown any more"

    proxy.faults = []
    await work_and_die(bucket_settings(proxy.url, bucket) | settings, service.data_dir, retain, "bytes_removed")
    assert len(moto.keys(bucket)) == len(whole) - 7
    proxy.seen.clear()
    await next_run(service)
    assert len([entry for entry in proxy.seen if not entry.startswith("GET")]) == 2
    assert [item["id"] for item in (await guest.history())["items"]] == made[:-6:-1]
    images, thumbnails = moto.keys(bucket, "users/"), moto.keys(bucket, "thumbnails/")
    assert (len(images), len(thumbnails)) == (10, 5)
    kept = {key for key in images if key.endswith(".png")} | set(thumbnails)
    copies = service.data_dir / "copies"
    assert {path.relative_to(copies).as_posix() for path in copies.rglob("*") if path.is_file()} == kept


async def test_an_image_whose_bytes_the_bucket_keeps_stays_whole_until_it_lets_go(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, proxy: FaultProxy
) -> None:
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, proxy.url, bucket, TRASH_MINUTES="0")
    guest = await service.guest()
    await guest.image()
    held = image_key(moto, bucket)
    await guest.image()
    assert (await guest.client.delete("/api/history/all")).status_code == 200
    (other,) = [key for key in moto.keys(bucket, "users/") if key.endswith(".png") and key != held]
    answer = (
        f"<DeleteResult><Deleted><Key>{other}</Key></Deleted>"
        f"<Error><Key>{held}</Key><Code>AccessDenied</Code><Message>held</Message></Error></DeleteResult>"
    )
    proxy.faults = [Fault("answer", "POST", status=200, body=answer, times=1)]
    report = await service.container.retention.run()
    assert report is not None
    assert (report.total.images, report.total.left, report.failure) == (1, 1, "")
    assert {held, record_key(stem_of(held))} <= set(moto.keys(bucket, "users/"))
    assert record_key(stem_of(other)) not in moto.keys(bucket, "users/")

    assert await retained(service) == 1
    assert held not in moto.keys(bucket, "users/")
