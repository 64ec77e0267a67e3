"""`python -m scripts.healthcheck api|worker`: ends with 0 when those processes of this machine work, else with 1.

For containers and supervisors, which ask every few seconds. The API answers for itself: it must be ready. A worker has
no port: its process must be here, and some worker must have left its sign of life in the queue.
"""

import argparse
import socket
import sys
from asyncio import run
from pathlib import Path

from arq.constants import default_queue_name, health_check_key_suffix
from redis import Redis
from redis.exceptions import RedisError

from core.settings import Settings, SettingsError, load_settings
from scripts.probe import answers

WORKER = "nbl-worker"
REDIS_SECONDS = 2
PROCESSES = Path("/proc")  # of Linux


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.healthcheck", description=__doc__)
    parser.add_argument("part", choices=["api", "worker"])
    part = parser.parse_args().part
    try:
        settings = load_settings()
        problem = api_problem(settings) if part == "api" else worker_problem(settings)
    except SettingsError as error:
        problem = str(error)
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1
    return 0


def api_problem(settings: Settings) -> str | None:
    """What keeps the API of HOST and PORT from serving; None when it serves."""
    server = settings.server
    address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
    host, port = str(address[0]), int(address[1])
    return None if run(answers(host, port, "/api/health/ready")) else "the API does not answer, or is not ready"


def worker_problem(settings: Settings) -> str | None:
    """What keeps the worker from working, by REDIS_URL; None when it works."""
    if not any(_name(process) == WORKER for process in PROCESSES.glob("[0-9]*")):
        return f"no process {WORKER} here"
    if settings.redis.redis_url is None:
        return "a worker over the embedded Redis has its leader, which watches it; set REDIS_URL"
    url = settings.redis.redis_url.get_secret_value()
    try:
        with Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS) as redis:
            sign = redis.get(default_queue_name + health_check_key_suffix)
    except RedisError as error:
        return f"Redis is away: {error}"
    return None if sign is not None else "no sign of life of a worker in the queue"


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it has ended meanwhile
        return ""


if __name__ == "__main__":
    sys.exit(main())
