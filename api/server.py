"""uvicorn's server, which before it waits for what is under way ends what would not end by itself."""

import asyncio
import socket

import uvicorn
from fastapi import FastAPI

from services.container import Container

FIRST_WORDS_SECONDS = 0.1


class ApiServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        container: Container = self._app.state.container
        container.task_streams.stop()
        for server in self.servers:
            server.close()
        if self.server_state.connections:
            # uvicorn would close those at once that have not asked anything yet, and who has just connected and is
            # asking could not know whether they were heard.
            await asyncio.sleep(FIRST_WORDS_SECONDS)
        await super().shutdown(sockets)
