"""uvicorn's server, which before it waits for what is under way ends what would not end by itself."""

import socket

import uvicorn
from fastapi import FastAPI

from services.container import Container


class ApiServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        container: Container = self._app.state.container
        container.task_streams.stop()
        await super().shutdown(sockets)
