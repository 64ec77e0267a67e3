"""Images of tasks without a row: they are their task's, for as long as the database knows of it."""

from dataclasses import replace

from core.ids import derived_id
from services.accounts.models import Caller
from services.generation.drafts import image_id_of, stem_of_call
from services.generation.models import GenerationCommand
from services.history.records import Record
from services.providers.base import ImageFacts, SpooledImage
from services.tasks.image_order import ImageOrder, share_of
from services.tasks.models import Task
from tests.reindex.shelf import grow_old, in_storage, listed, reindexed
from tests.support.databases import databases
from tests.support.parts import FOLDER_ID, IMAGE_BYTES, Counted, Parts, draft

NOTHING = Counted(0, {}, {})
ONE_IMAGE = Counted(1, {("usr_a", "batch_1k"): 1}, {})


async def accepted(parts: Parts, count: int = 2) -> Task:
    command = GenerationCommand(
        request_id="req_a", caller=Caller("usr_a", "user", FOLDER_ID, "ses_a", "192.0.2.1"), own_key=None, mode="batch",
        prompt="a lighthouse", aspect_ratio="1:1", resolution="1K", safety_level="moderate",
    )  # fmt: skip
    assert command.caller is not None
    return (await parts.container.image_tasks.submit(command, command.caller, kind="batch", count=count)).task


async def stored(parts: Parts, task: Task, index: int = 0) -> Record:
    """As far as a worker gets that dies before an image is indexed."""
    share, command = share_of(task, index), ImageOrder.on(task).command(task.user_id)
    assert command.caller is not None
    stem = stem_of_call(command, command.caller, share.call)
    path = parts.container.spool.new_path()
    path.write_bytes(IMAGE_BYTES)
    image = replace(
        draft(replace(share.reservation, note=stem)),
        id=image_id_of(share.call.id), call_id=derived_id("call", task.id, index), task_id=task.id, mode="batch",
    )  # fmt: skip
    spooled = SpooledImage(path, len(IMAGE_BYTES), ImageFacts("image/png", 1, 1))
    return await parts.keeper.store(image, spooled, stem, share.reservation)


async def test_an_image_of_a_task_that_goes_on_is_left_to_the_task(parts: Parts) -> None:
    task = await accepted(parts)
    await stored(parts, task)

    report = await reindexed(parts)

    assert (report.under_way, report.entered, report.oddities) == (1, {}, {})
    assert await listed(parts) == []
    day = share_of(task, 0).reservation.day
    assert await parts.ledger(day) == NOTHING
    # The next try finds it.
    command = ImageOrder.on(task).command(task.user_id)
    assert await parts.container.shares.find(command, share_of(task, 0)) is not None
    assert await parts.ledger(day) == ONE_IMAGE
    again = await reindexed(parts)
    assert (again.there, again.under_way, again.entered) == (1, 0, {})


async def test_bytes_that_a_task_has_left_hours_ago_are_no_found_image_while_it_goes_on(parts: Parts) -> None:
    task = await accepted(parts)
    record = await stored(parts, task)
    folder = parts.container.settings.storage.data_dir
    databases.change(folder, "UPDATE tasks SET created_at = created_at - 7200000 WHERE id = :id", id=task.id)
    image = in_storage(parts, record.image.key)
    image.with_suffix(".json").unlink()
    grow_old(image)

    report = await reindexed(parts)

    assert (report.under_way, report.entered) == (1, {})


async def test_what_is_left_of_a_cancelled_task_is_named_and_not_charged(parts: Parts) -> None:
    task = await accepted(parts)
    assert (await parts.container.tasks.cancel("usr_a", task.id)).status == "cancelled"
    record = await stored(parts, task)

    report = await reindexed(parts)

    assert (report.under_way, report.entered, report.oddities) == (0, {}, {"task_over": 1})
    assert f"image that a task has left which is over: {record.image.key}" in report.told
    assert await listed(parts) == []
    assert await parts.ledger(share_of(task, 0).reservation.day) == NOTHING


async def test_when_the_database_has_lost_the_task_its_image_is_entered_and_charged(parts: Parts) -> None:
    task = await accepted(parts)
    record = await stored(parts, task)
    folder = parts.container.settings.storage.data_dir
    for table in ("tasks", "quota_holds"):
        databases.change(folder, f"DELETE FROM {table}")

    report = await reindexed(parts)

    assert (report.entered, report.charged, report.points) == ({"record": 1}, 1, 1)
    assert await listed(parts) == [record.image.id]
