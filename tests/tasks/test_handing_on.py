"""Tasks of a guest who signs in: they are the account's at once, those that still wait or run as well."""

from tests.support.answers import error_of
from tests.support.event_source import all_of, next_event, watching
from tests.support.people import bearer, registered
from tests.support.service import RunningService
from tests.tasks.workers import cancel, read, submit, until, until_settled, working


async def test_who_was_a_guest_until_now_sees_and_stops_what_still_goes_on(tasks_service: RunningService) -> None:
    guest, stranger = await tasks_service.guest(), await registered(tasks_service, "bob@example.org")
    going_on, over = await submit(guest), await submit(guest)
    await cancel(guest, over)
    ada = await registered(tasks_service, "ada@example.org", headers=bearer(guest))

    assert (await read(ada, going_on))["status"] == "pending"
    listed = (await ada.client.get("/api/v1/tasks")).json()["data"]
    assert ({task["task_id"] for task in listed["items"]}, listed["total"]) == ({going_on, over}, 2)
    async with watching(ada.client, going_on) as events:
        await cancel(ada, going_on)
        assert (await next_event(events)).type == "cancelled"
    error_of(await stranger.client.get(f"/api/v1/tasks/{going_on}"), 404, "NOT_FOUND")
    assert (await stranger.client.get("/api/v1/tasks")).json()["data"]["total"] == 0

    # Nothing of it is under way any more, and it is the account's before anybody comes to hand it on.
    retried = await ada.client.post(f"/api/v1/tasks/{going_on}/retry", json={})
    assert retried.status_code == 202, retried.text
    async with working(tasks_service):
        assert (await until(ada, going_on, "completed", "failed"))["status"] == "completed"
    await until_settled(ada, 1)
    assert (await ada.client.delete(f"/api/v1/tasks/{over}")).status_code == 200


async def test_what_a_guest_had_under_way_is_made_and_told_to_the_account(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit(guest, num=2)
    token = (await guest.client.post(f"/api/v1/tasks/{task_id}/events-token")).json()["token"]
    ada = await registered(tasks_service, "ada@example.org", headers=bearer(guest))
    async with working(tasks_service):
        assert (await until(ada, task_id, "completed", "failed"))["completed"] == 2
    await hand_on(tasks_service)
    assert len((await ada.client.get("/api/history")).json()["items"]) == 2
    # It lives as long as the events do, whosever they are by now.
    seen = await all_of(tasks_service.client, task_id, token=token)
    assert [event.type for event in seen] == ["started", "progress", "completed"]


async def hand_on(service: RunningService) -> None:
    """As the worker does."""
    await service.container.departures.finish()
