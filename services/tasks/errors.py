"""Why a task is not what somebody wants it to be."""

from core.errors import AppError
from services.idempotency import Conflict
from services.tasks.events import TaskStatus


class WrongState(Conflict):
    """The task's state does not allow this: `status` says which it is."""

    type = "task_state"

    def __init__(self, status: TaskStatus) -> None:
        AppError.__init__(self, f"the task is {status}", status=status)


class ReferencesGone(Conflict):
    """The images that the task was to be made from are not kept any more."""

    type = "references_gone"

    def __init__(self) -> None:
        AppError.__init__(self, "references are gone")


class NoCallback(Conflict):
    """The task was given no `callback_url`, so there is nobody to tell."""

    type = "no_callback"

    def __init__(self) -> None:
        AppError.__init__(self, "no callback")


class TaskTimeout(AppError):
    """The task was not done within its time limit (`limit`, seconds)."""

    code = "TASK_TIMEOUT"
    status = 504
    type = "task_timeout"

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


class TaskAbandoned(AppError):
    """The task outlived too many workers (`deaths`); something about it may be what kills them."""

    code = "TASK_ABANDONED"
    status = 500
    type = "task_abandoned"

    def __init__(self, deaths: int) -> None:
        super().__init__(deaths=deaths)


class TaskLost(Exception):
    """The task is another worker's by now, or has ended: nothing that this one does counts any more."""
