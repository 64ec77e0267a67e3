"""One API process: `python -m api [--fd N]`. scripts/serve.py starts it with the socket that it has bound."""

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path

import uvicorn
from setproctitle import setproctitle

from api.head_limit import HeadLimit
from api.main import create_app
from api.server import ApiServer
from core.collector import start_collector
from core.logging import configure_logging
from core.metrics import Metrics
from core.settings import SettingsError, load_settings
from services.container import prove_parts
from services.providers.assembly import read_catalog
from services.providers.catalog import CatalogError

PROCESS_NAME = "nbl-api"
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 25
BACKLOG = 2048
START_FAILURE = 3


def main() -> int:
    setproctitle(PROCESS_NAME)
    parser = argparse.ArgumentParser(prog="python -m api")
    parser.add_argument("--fd", type=int, default=None, help="listening socket to inherit")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        # Read again when the app opens its parts; from there an error would come as a traceback.
        read_catalog(settings)
        configure_logging(settings)
        asyncio.run(prove_parts(settings))
    except (SettingsError, CatalogError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    app = create_app(settings, Metrics(Path(shared) if shared else None))
    server = settings.server
    config = uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        loop="uvloop",
        http=HeadLimit,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        workers=1,  # WEB_CONCURRENCY, which uvicorn would read itself, is the number of processes like this one
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=list(server.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=BACKLOG,
    )
    # uvicorn's own `fd` takes every socket for a Unix one: then there is no client address, and answers wait 40 ms for
    # the client's acknowledgement.
    inherited = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    start_collector()
    api_server = ApiServer(config, app, is_alone=server.web_concurrency == 1)
    api_server.run(sockets=inherited)
    return 0 if api_server.started else START_FAILURE


if __name__ == "__main__":
    sys.exit(main())
