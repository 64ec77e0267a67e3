"""What the image would run, without an engine: as its user, on a root that nobody can write to.

The build of the image itself is not tested here; it needs an engine and its registry.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from core.clients.embedded_redis import running_redis
from tests.deployment.dockerfile import ROOT, Image, read_image
from tests.support.installation import Installation, eventually, free_port, named

SANDBOX = Path(__file__).parent / "read_only_root.sh"
SECRET_KEY = "0123456789abcdef0123456789ABCDEF"
WRITABLE = ("/data", "/tmp", "/dev", "/proc")
START_SECONDS, STOP_SECONDS = 60, 45
UNSHARE = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
# As in a container: no process of anybody else's.
ALONE = [*UNSHARE, "--pid", "--fork", "--mount-proc"]


class Sandbox:
    """The image's files below a folder, and what runs in it."""

    def __init__(self, folder: Path, image: Image) -> None:
        self.image = image
        self.port = free_port()
        self.log = folder / "log"
        self._root = folder / "root"
        self._app = folder / "app"
        self._root.mkdir()
        self._app.mkdir()
        (self._app / ".venv").mkdir()
        image.lay_out(self._app)
        # The user of the image is nobody on this machine, and must still reach them.
        for path in (self._app, *self._app.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def uid(self) -> str:
        """The image's where we may become it; nobody but root may, and whoever is not root has no rights already."""
        return self.image.user.partition(":")[0] if os.getuid() == 0 else ""

    def run(self, command: list[str], **settings: str) -> subprocess.Popen[bytes]:
        environment = self.image.environment | {"SECRET_KEY": SECRET_KEY, "PORT": str(self.port)} | settings
        path = environment.pop("PATH").replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
        inside = ["env", "-i", "-C", self.image.workdir, f"PATH={path}"]
        inside += [f"{name}={value}" for name, value in environment.items()]
        places = [self._root, self._app, ROOT / ".venv", sys.base_prefix]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*UNSHARE, SANDBOX, *map(str, places), self.uid, *inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def serve(self, **settings: str) -> subprocess.Popen[bytes]:
        leader = self.run(self.image.command, **settings)
        assert eventually(lambda: self.ready() or leader.poll() is not None, START_SECONDS), self.output()
        assert leader.poll() is None, self.output()
        return leader

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def clean_up(self) -> None:
        for process in self._started:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            for child in children:
                if child.is_running():
                    child.kill()
            psutil.wait_procs(children, timeout=5)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path, read_image())
    try:
        yield sandbox
    finally:
        sandbox.clean_up()


def status(process: psutil.Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def writable_mounts(process: psutil.Process) -> list[str]:
    """Mount points of the process that are not read-only, but for those where something may be written."""
    found = []
    for line in Path(f"/proc/{process.pid}/mountinfo").read_text(encoding="utf-8").splitlines():
        place, options = line.split()[4:6]
        if "ro" not in options.split(",") and not place.startswith(WRITABLE):
            found.append(place)
    return found


def test_the_image_serves_without_rights_on_a_root_that_is_read_only(sandbox: Sandbox) -> None:
    leader = sandbox.serve()
    assert eventually(lambda: "nbl-worker" in names(leader)), sandbox.output()

    everyone = [psutil.Process(leader.pid), *psutil.Process(leader.pid).children(recursive=True)]
    assert {"nbl-api", "nbl-worker", "nbl-redis"} <= names(leader)
    for process in everyone:
        found = status(process)
        assert found["Uid"].split() == [sandbox.uid or str(os.getuid())] * 4
        assert found["NoNewPrivs"] == "1"
        assert {int(found[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd")} == {0}
        assert writable_mounts(process) == []

    with httpx.Client(base_url=f"http://127.0.0.1:{sandbox.port}", timeout=15) as client:
        tokens = client.post("/api/auth/guest", json={}).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert client.get("/api/auth/me", headers=headers).json()["role"] == "guest"

    os.kill(leader.pid, signal.SIGTERM)
    assert leader.wait(STOP_SECONDS) == 0, sandbox.output()
    assert "Read-only" not in sandbox.output()


def names(leader: subprocess.Popen[bytes]) -> set[str]:
    return {child.name() for child in psutil.Process(leader.pid).children(recursive=True)}


def test_the_image_says_itself_whether_it_works(sandbox: Sandbox) -> None:
    check = sandbox.image.healthcheck
    assert sandbox.run(check).wait(START_SECONDS) == 1
    assert "does not answer" in sandbox.output()
    sandbox.serve()
    assert sandbox.run(check).wait(START_SECONDS) == 0, sandbox.output()


def test_a_worker_says_whether_it_works(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with running_redis(tmp_path / "redis") as redis:

        def problem(*where: str, redis_url: str = redis.url) -> str | None:
            """What the check complains of."""
            settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url}
            check = [*where, sys.executable, *read_image().healthcheck[1:-1], "worker"]
            done = subprocess.run(check, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
            assert done.returncode == (1 if done.stderr else 0)
            return done.stderr or None

        try:
            leader = installation.start(REDIS_URL=redis.url)
            assert eventually(lambda: problem() is None), problem()
            assert "Redis is away" in str(problem(redis_url="redis://127.0.0.1:1/0"))
            (worker,) = named(leader, "nbl-worker")
            worker.suspend()  # it is there, but it does nothing any more
            assert eventually(lambda: "no sign of life" in str(problem()), seconds=30)
            worker.resume()
            assert eventually(lambda: problem() is None), problem()
            assert "no process nbl-worker" in str(problem(*ALONE))  # whoever else has one
        finally:
            installation.clean_up()


def test_production_is_what_the_image_runs_in(sandbox: Sandbox) -> None:
    leader = sandbox.run(sandbox.image.command, SECRET_KEY="")
    assert leader.wait(START_SECONDS) == 2
    assert "SECRET_KEY: must be set in production" in sandbox.output()


def test_the_image_is_nobodys_in_particular() -> None:
    user, _, group = read_image().user.partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000


def test_what_has_to_last_lies_in_the_volume() -> None:
    image = read_image()
    assert image.environment["DATA_DIR"] in image.volumes


def test_the_engine_is_given_what_the_image_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert allowed == {*read_image().copied, "requirements.lock"}
