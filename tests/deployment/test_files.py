"""The files that operators start from, each held against the tool that reads it, and against our own code."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.main import create_app
from core.metrics import Metrics
from core.settings import load_settings, setting_groups
from scripts.serve import read_arguments
from tests.deployment.dockerfile import ROOT, read_image

TOOLS = Path(sys.executable).parent
COMPOSE_SECRETS = {
    "SECRET_KEY": "0123456789abcdef0123456789ABCDEF", "POSTGRES_PASSWORD": "letters1",
    "S3_ACCESS_KEY": "nbl", "S3_SECRET_KEY": "letters2",
}  # fmt: skip
SETTINGS = {field.upper() for group in setting_groups().values() for field in group.model_fields}
ONE_SHOT = {"migrate", "bucket"}
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
INSTALLED_PYTHON = "/opt/nano-banana-lab/.venv/bin/python"
RAILWAY_FILES = ["railway.json", "deploy/railway-worker.json"]
# https://docs.railway.com/config-as-code/reference, as of November 2026
RAILWAY_BUILD = {"builder", "dockerfilePath"}
RAILWAY_DEPLOY = {
    "preDeployCommand", "startCommand", "healthcheckPath", "healthcheckTimeout", "restartPolicyType",
    "restartPolicyMaxRetries", "overlapSeconds", "drainingSeconds",
}  # fmt: skip


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    usual = {"PATH": f"{TOOLS}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run(
        command, cwd=ROOT, env=usual | environment, capture_output=True, text=True, timeout=60, check=False
    )


def compose_config(**environment: str) -> subprocess.CompletedProcess[str]:
    return run(
        TOOLS / "docker-compose",
        "--env-file",
        "/dev/null",
        "config",
        "--no-env-resolution",
        "--format",
        "json",
        **environment,
    )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    done = compose_config(**COMPOSE_SECRETS)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def routes() -> set[str]:
    return set(create_app(load_settings(), Metrics()).openapi()["paths"])


def started_with(command: list[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The part that a command of ours starts; the command must be one that scripts/serve.py takes."""
    assert command[:3] == ["python", "-m", "scripts.serve"], command
    monkeypatch.setattr(sys, "argv", command[2:])
    return read_arguments()


def test_the_compose_file_is_one_for_docker_compose_itself(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) >= {"proxy", "api", "worker", "redis", "postgres", "s3"}


@pytest.mark.parametrize("missing", COMPOSE_SECRETS)
def test_compose_refuses_to_start_without_a_secret(missing: str) -> None:
    given = {name: value for name, value in COMPOSE_SECRETS.items() if name != missing}
    done = compose_config(**given)
    assert done.returncode != 0
    assert missing in done.stderr


def test_each_service_that_stays_has_a_health_check(compose: dict[str, Any]) -> None:
    without = {name for name, service in compose["services"].items() if "healthcheck" not in service}
    assert without == ONE_SHOT


def test_each_service_runs_without_rights_on_a_read_only_root(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in ("api", "worker", "migrate"):
        assert compose["services"][name]["user"] == read_image().user


def test_the_stores_are_reached_by_nobody_from_outside(compose: dict[str, Any]) -> None:
    assert compose["networks"]["stores"]["internal"] is True
    assert {name for name, service in compose["services"].items() if "ports" in service} == {"proxy"}
    for name in ("redis", "postgres", "s3"):
        assert set(compose["services"][name]["networks"]) == {"stores"}
    assert "stores" not in compose["services"]["proxy"]["networks"]


def test_redis_writes_down_what_it_has_acknowledged_and_forgets_nothing(compose: dict[str, Any]) -> None:
    options = shlex.join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in options
    assert "--maxmemory-policy noeviction" in options


def test_compose_starts_the_parts_with_settings_that_we_know(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("api", "worker"):
        service = compose["services"][part]
        assert started_with(service["command"], monkeypatch) == part
        assert set(service["environment"]) - SETTINGS == set()
    (subnet,) = compose["networks"]["front"]["ipam"]["config"]
    assert compose["services"]["api"]["environment"]["TRUSTED_PROXIES"] == subnet["subnet"]


def test_the_linter_has_nothing_to_say_of_the_dockerfile() -> None:
    done = run(TOOLS / "hadolint", "--failure-threshold", "style", "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_proxys_file_is_one_for_caddy(tmp_path: Path) -> None:
    # It makes its certificates even to validate.
    place = {"HOME": str(tmp_path)}
    done = run(TOOLS / "caddy", "validate", "--config", "deploy/Caddyfile", "--adapter", "caddyfile", **place)
    assert done.returncode == 0, done.stderr
    formatted = run(TOOLS / "caddy", "fmt", "deploy/Caddyfile")
    assert formatted.stdout == (ROOT / "deploy/Caddyfile").read_text(encoding="utf-8")


def verify(unit: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Hold a unit against systemd, as if the service were installed on this machine."""
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing; Debian, Ubuntu: apt-get install systemd"
    path = folder / name
    path.write_text(unit.replace(INSTALLED_PYTHON, sys.executable), encoding="utf-8")
    return run("systemd-analyze", "verify", "--man=no", path)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_systemd_takes_the_units(unit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = unit.read_text(encoding="utf-8")
    done = verify(text, tmp_path, unit.name)
    assert (done.returncode, done.stderr) == (0, "")

    (start,) = [line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart=")]
    command = start.replace(INSTALLED_PYTHON, "python").split()
    assert started_with(command, monkeypatch) == (unit.stem.removeprefix("nano-banana-lab").strip("-") or None)


def test_what_systemd_does_not_know_would_be_seen(tmp_path: Path) -> None:
    text = UNITS[0].read_text(encoding="utf-8").replace("NoNewPrivileges=", "NoMorePrivileges=")
    assert "NoMorePrivileges" in verify(text, tmp_path, UNITS[0].name).stderr


@pytest.mark.parametrize("name", RAILWAY_FILES)
def test_the_files_for_railway_say_what_it_knows(name: str, routes: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schema is in no package that can be installed: its documented fields, and our own commands and routes."""
    document = json.loads((ROOT / name).read_text(encoding="utf-8"))
    assert set(document) == {"$schema", "build", "deploy"}
    assert set(document["build"]) <= RAILWAY_BUILD
    assert (ROOT / document["build"]["dockerfilePath"]).exists()
    deploy = document["deploy"]
    assert set(deploy) <= RAILWAY_DEPLOY
    part = started_with(deploy["startCommand"].split(), monkeypatch)
    assert part == ("worker" if "worker" in name else "api")
    assert deploy.get("healthcheckPath", "/api/health/ready") in routes
    assert ("healthcheckPath" in deploy) == (part == "api")
    assert deploy.get("preDeployCommand", []) == (["python -m migrations upgrade"] if part == "api" else [])


def test_the_blueprint_for_render_fits_together(routes: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schema is in no package that can be installed: that whatever is referred to is there, and known to us."""
    blueprint = yaml.safe_load((ROOT / "render.yaml").read_text(encoding="utf-8"))
    services = {service["name"]: service for service in blueprint["services"]}
    databases = {database["name"] for database in blueprint["databases"]}
    groups = {group["name"]: group for group in blueprint["envVarGroups"]}
    for service in (found for found in services.values() if found["type"] != "keyvalue"):
        own = {variable["key"]: variable for variable in service["envVars"] if "key" in variable}
        shared = [groups[variable["fromGroup"]] for variable in service["envVars"] if "fromGroup" in variable]
        everything = set(own) | {variable["key"] for group in shared for variable in group["envVars"]}
        assert everything <= SETTINGS
        assert everything >= {"REDIS_URL", "DATABASE_URL", "R2_ENABLED", "SECRET_KEY", "ENVIRONMENT"}
        for variable in own.values():
            if "fromDatabase" in variable:
                assert variable["fromDatabase"]["name"] in databases
            if "fromService" in variable:
                referred = services[variable["fromService"]["name"]]
                assert referred["type"] == variable["fromService"]["type"]
                given = {found.get("key") for found in referred.get("envVars", [])}
                assert variable["fromService"].get("envVarKey") in given | {None}
        part = started_with(service["dockerCommand"].split(), monkeypatch)
        assert part == {"web": "api", "worker": "worker"}[service["type"]]
    assert services["nbl-api"]["healthCheckPath"] in routes
    assert services["nbl-api"]["preDeployCommand"] == "python -m migrations upgrade"
    assert services["nbl-redis"]["maxmemoryPolicy"] == "noeviction"
