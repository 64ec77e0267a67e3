"""`python -m scripts.serve` end to end: the real tree of processes on a free port, over a folder of its own."""

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from redis.exceptions import ConnectionError

from core.clients.embedded_redis import running_redis
from core.settings import embedded_database
from tests.support.databases import databases
from tests.support.installation import Installation, alive, eventually, named, tree_of

STOP_SECONDS = 15


def started_again(leader: subprocess.Popen[bytes], gone: psutil.Process) -> Callable[[], bool]:
    name = gone.name()
    return lambda: any(process.pid != gone.pid for process in named(leader, name))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Installation]:
    service = Installation(tmp_path)
    yield service
    service.clean_up()


def test_it_starts_everything_says_where_and_stops_on_sigterm(service: Installation) -> None:
    leader = service.start()

    assert service.health() == 200
    assert psutil.Process(leader.pid).name() == "nbl"
    names = sorted(process.name() for process in psutil.Process(leader.pid).children())
    assert names == ["nbl-api", "nbl-redis", "nbl-worker"]
    assert f"http://127.0.0.1:{service.port}" in service.output()
    assert f"http://127.0.0.1:{service.port}/docs" in service.output()
    assert str(service.data) in service.output()
    assert "demo provider until GOOGLE_API_KEY is set" in service.output()
    assert (service.data / "setup_token").read_text() in service.output()

    processes = tree_of(leader)
    leader.send_signal(signal.SIGTERM)

    assert leader.wait(STOP_SECONDS) == 0
    assert not any(alive(process) for process in processes)
    assert not (service.data / "run" / "lock").exists()


def test_a_second_start_finds_all_data_and_ctrl_c_stops_it(service: Installation) -> None:
    leader = service.start()
    with service.redis() as redis:
        redis.set("kept", "yes")
    leader.send_signal(signal.SIGTERM)
    assert leader.wait(STOP_SECONDS) == 0
    assert databases.server is not None or embedded_database(service.data).exists()

    leader = service.start()
    with service.redis() as redis:
        assert redis.get("kept") == b"yes"
    assert service.health() == 200
    # What a terminal does on Ctrl-C: the whole foreground process group gets SIGINT.
    os.killpg(leader.pid, signal.SIGINT)

    assert leader.wait(STOP_SECONDS) == 0
    assert "Traceback" not in service.output()


def test_an_api_process_that_is_killed_comes_back_and_no_request_is_refused(service: Installation) -> None:
    leader = service.start(WEB_CONCURRENCY="2")
    first, second = named(leader, "nbl-api")

    for victim in (first, second):
        back = started_again(leader, victim)
        victim.kill()
        assert service.health() == 200
        assert eventually(back)
    assert eventually(lambda: len(named(leader, "nbl-api")) == 2)
    assert service.health() == 200
    assert service.output().count("died: SIGKILL; starting it again") == 2


def test_processes_share_the_connections_that_come_at_once(service: Installation) -> None:
    """As those of a proxy do, which then stay."""
    leader = service.start(WEB_CONCURRENCY="2")
    processes = named(leader, "nbl-api")

    def shares() -> list[int]:
        connections = [http.client.HTTPConnection("127.0.0.1", service.port) for _ in range(20)]
        for connection in connections:
            connection.connect()
        for connection in connections:
            connection.request("GET", "/api/health")
            assert connection.getresponse().read()
        taken = [
            sum(open_now.laddr.port == service.port for open_now in process.net_connections("tcp4") if open_now.raddr)
            for process in processes
        ]
        for connection in connections:
            connection.close()
        return taken

    assert eventually(lambda: min(shares()) > 0)  # the second one has started, too
    assert min(shares()) >= 4


def test_the_worker_and_redis_come_back_with_the_data(service: Installation) -> None:
    leader = service.start()
    with service.redis() as redis:
        redis.set("kept", "yes")
    for name in ("nbl-worker", "nbl-redis"):
        (victim,) = named(leader, name)
        back = started_again(leader, victim)
        victim.kill()
        assert eventually(back), name

    def data_is_back() -> bool:
        with service.redis() as redis:
            try:
                return bool(redis.get("kept") == b"yes")
            except ConnectionError:  # the new process is there, but does not listen yet
                return False

    assert eventually(data_is_back)
    assert service.health() == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help against orphans is Linux's")
def test_a_leader_killed_with_minus_9_leaves_no_orphan_and_the_next_one_starts(service: Installation) -> None:
    leader = service.start()
    processes = tree_of(leader)

    leader.kill()
    leader.wait()

    service.start()
    assert not any(alive(process) for process in processes)
    assert service.health() == 200


def test_a_busy_port_is_one_line(service: Installation) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", service.port))
        other.listen()
        code, lines = service.refused()

    assert code == 1
    assert len(lines) == 1
    assert f"port {service.port} on 127.0.0.1 is in use" in lines[0]
    assert "PORT" in lines[0]
    assert not (service.data / "run" / "lock").exists()


def test_a_folder_that_cannot_be_written_is_one_line(service: Installation) -> None:
    service.data.touch()  # a file: permissions would not stop a test that runs as root

    code, lines = service.refused(DATA_DIR=str(service.data / "inside"))

    assert code == 1
    assert len(lines) == 1
    assert f"DATA_DIR {service.data / 'inside'} can't be written: Not a directory" in lines[0]


def test_a_second_instance_on_the_folder_is_one_line(service: Installation, tmp_path: Path) -> None:
    leader = service.start()
    second = Installation(tmp_path / "second")
    second.folder.mkdir()

    code, lines = second.refused(DATA_DIR=str(service.data))

    assert code == 1
    assert len(lines) == 1
    assert f"{service.data} is in use by another instance (pid {leader.pid})" in lines[0]
    assert service.health() == 200


def test_wrong_settings_are_all_named(service: Installation) -> None:
    code, lines = service.refused(PORT="none", WEB_CONCURRENCY="0")

    assert code == 2
    assert sorted(line.partition(":")[0] for line in lines) == ["PORT", "WEB_CONCURRENCY"]
    assert not service.data.exists()


@pytest.mark.sqlite_only
def test_a_database_of_another_version_is_one_line(service: Installation) -> None:
    service.data.mkdir()
    with closing(sqlite3.connect(embedded_database(service.data))) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999_tomorrow')")
        database.commit()

    code, lines = service.refused()

    assert code == 1
    assert len(lines) == 1
    assert "is at revision 9999_tomorrow, which this version does not know" in lines[0]


def test_with_redis_url_no_server_is_embedded(service: Installation, tmp_path: Path) -> None:
    with running_redis(tmp_path / "elsewhere") as redis:
        leader = service.start(REDIS_URL=redis.url)
        assert named(leader, "nbl-redis") == []
        assert service.health() == 200
        leader.send_signal(signal.SIGTERM)
        assert leader.wait(STOP_SECONDS) == 0


def test_a_broken_models_file_is_one_line_and_ends_the_start(service: Installation) -> None:
    service.data.mkdir(parents=True)
    (service.data / "models.toml").write_text("[models.x]\nprovider = 5\n")
    leader = service.launch()
    assert leader.wait(60) == 1
    output = service.output()
    assert "models.toml" in output
    assert "Traceback" not in output
    assert output.count("models.toml") == 1


def test_the_address_of_a_client_is_known(service: Installation) -> None:
    """The guests' share and the limits of an address hang on it."""
    service.start()
    with httpx.Client(base_url=service.url) as client:
        tokens = client.post("/api/auth/guest", json={}).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        sessions = client.get("/api/auth/sessions", headers=headers).json()["sessions"]
    assert [session["address"] for session in sessions] == ["127.0.0.1"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process has mapped")
def test_a_disk_that_is_full_kills_no_process_by_its_metrics(service: Installation) -> None:
    """A write to a mapped file whose disk is full is a SIGBUS, so no such file of metrics may lie on that disk."""
    leader = service.start()
    metrics = [path for child in named(leader, "nbl-api") for path in mapped_files(child) if path.match("counter_*.db")]
    assert len(metrics) == 1
    assert not metrics[0].is_relative_to(service.data)

    leader.send_signal(signal.SIGTERM)
    assert leader.wait(STOP_SECONDS) == 0
    assert not metrics[0].parent.exists()


def mapped_files(process: psutil.Process) -> list[Path]:
    return [Path(mapped.path) for mapped in process.memory_maps()]
