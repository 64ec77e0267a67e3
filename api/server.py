"""uvicorn's server, which shares connections with others of its kind, and which before it waits for what is under way
ends what would not end by itself.
"""

import asyncio
import socket
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.listener import PoliteListener
from services.container import Container

LOOK_SECONDS = 0.02
LAST_WORDS_LOOKS = 50  # one second


class ApiServer(uvicorn.Server):
    """`is_alone`: no other process listens on its socket."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, is_alone: bool) -> None:
        super().__init__(config)
        self._app = app
        self._is_alone = is_alone

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._is_alone or sockets is None:
            await super().startup(sockets)
            return
        await super().startup([])  # all but listening
        for listening in sockets:
            listener = PoliteListener(listening, self._protocol, lambda: len(self.server_state.connections))
            listener.start()
            self.servers.append(cast(asyncio.base_events.Server, listener))

    def _protocol(self) -> asyncio.Protocol:
        protocol = cast(type[HttpToolsProtocol], self.config.http_protocol_class)
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        container: Container = self._app.state.container
        container.task_streams.stop()
        for server in self.servers:
            server.close()
        # Each answer from now on says that its connection closes.
        self._app.state.is_closing = True
        # uvicorn would close those at once on which nothing is being asked. Who has just connected, or is about to ask
        # once more, could not know whether they were heard.
        for _ in range(LAST_WORDS_LOOKS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(LOOK_SECONDS)
        await super().shutdown(sockets)
