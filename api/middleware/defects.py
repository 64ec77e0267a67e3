"""The net under all that we did not foresee: a defect becomes the documented answer, and a trace in the log."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import render_error
from core.errors import InternalError
from core.logging import get_logger

log = get_logger(__name__)


class DefectNet:
    """Inside of what adds headers, so that this answer has them too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answering = False

        async def watching_send(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except Exception as error:
            log.error("unexpected error", exc_info=error)
            if answering:
                raise
            await render_error(Request(scope), InternalError())(scope, receive, send)
