"""The models as data: their names, their ends, the operator's override, their prices."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.gemini_standin import GeminiStandin
from core.errors import ValidationFailed
from core.metrics import Metrics
from core.settings import load_settings
from services.container import open_container
from services.providers.base import Capability
from services.providers.catalog import Catalog, CatalogError, load_catalog
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import error_of, image_calls, override_catalog
from tests.support.service import RunningService

ROOT = Path(__file__).parents[2]
NOWHERE = Path("/nowhere/models.toml")
TODAY = datetime.now(UTC).date()
MADE = Capability.TEXT_TO_IMAGE


def shipped() -> Catalog:
    return load_catalog(NOWHERE, default_models={})


def overridden(folder: Path, text: str) -> Catalog:
    (folder / "models.toml").write_text(text, encoding="utf-8")
    return load_catalog(folder / "models.toml", default_models={})


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(CatalogError) as raised:
        overridden(folder, text)
    assert "\n" not in str(raised.value)
    assert str(folder / "models.toml") in str(raised.value)
    return str(raised.value)


def test_every_successor_is_a_model_that_has_not_ended() -> None:
    catalog = shipped()
    for model in catalog.models.values():
        if model.successor is not None:
            assert catalog.find(model.provider, model.successor, MADE, date(2026, 11, 22)).ends_on is None


def test_an_alias_finds_its_model() -> None:
    catalog = shipped()
    for model in catalog.models.values():
        made = MADE if MADE in model.capabilities else Capability.TEXT
        for name in (model.id, *model.aliases):
            if model.ends_on is None:
                assert catalog.find(model.provider, name, made, TODAY) == model


def test_a_model_of_another_provider_is_not_found() -> None:
    with pytest.raises(ValidationFailed):
        shipped().find("demo", "gemini-3-pro-image", MADE, TODAY)


def test_a_model_works_on_its_last_day_and_ends_after_it(tmp_path: Path) -> None:
    catalog = overridden(tmp_path, "[models.demo]\nends_on = 2026-03-31\n")
    assert catalog.find("demo", "demo", MADE, date(2026, 3, 31)).id == "demo"
    with pytest.raises(ValidationFailed) as raised:
        catalog.find("demo", "demo", MADE, date(2026, 4, 1))
    assert "model_ended" in str(raised.value)


def test_an_override_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    catalog = overridden(
        tmp_path, '[models.demo]\naliases = ["sketch"]\nprices = { 1K = 0.5 }\n[providers.gemini]\nmax_retries = 1\n'
    )
    before = shipped()
    assert catalog.find("demo", "sketch", MADE, TODAY).prices == {"1K": 0.5, "2K": 0.0, "4K": 0.0}
    assert catalog.providers["gemini"].max_retries == 1
    assert catalog.providers["gemini"].timeout_seconds == before.providers["gemini"].timeout_seconds
    assert {**catalog.models, "demo": None} == {**before.models, "demo": None}


def test_an_override_can_add_a_model(tmp_path: Path) -> None:
    catalog = overridden(
        tmp_path,
        '[models."gemini-4-image"]\nprovider = "gemini"\ncapabilities = ["text_to_image"]\n'
        'aspect_ratios = ["1:1"]\nresolutions = ["1K"]\nprices = { 1K = 0.1 }\n',
    )
    assert catalog.find("gemini", "gemini-4-image", MADE, TODAY).resolutions == ("1K",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[models.demo\n", "line 1"),
        ('[models.demo]\nresolutions = "1K"\n', "models.demo.resolutions"),
        ("[models.demo]\nresolution = ['1K']\n", "models.demo.resolution"),
        ("[models.demo]\ncapabilities = ['dance']\n", "models.demo.capabilities"),
        ("[models.demo]\nends_on = 'soon'\n", "models.demo.ends_on"),
        ("[models.demo]\nprices = { 1K = 'cheap' }\n", "models.demo.prices.1K"),
        ("[models.demo]\nresolutions = ['1K', '8K']\n", "models.demo.prices: none for 8K"),
        ("[models.demo]\nprovider = 'dall-e'\n", "models.demo.provider"),
        ("[models.demo]\naliases = ['nano-banana']\n", "nano-banana"),
        ("[models.fresh]\nprovider = 'gemini'\n", "models.fresh.capabilities"),
        ("[models.fresh]\nprovider = 'gemini'\ncapabilities = ['edit']\n", "models.fresh.aspect_ratios"),
        ("[providers.gemini]\ntext_model = 'demo'\n", "gemini-3-flash"),
        ("[providers.gemini]\nmax_retries = -1\n", "providers.gemini.max_retries"),
        ("[providers.gemini]\ndefault_model = 'demo'\n", "gemini-3-pro-image"),
        ("models = 5\n", "models"),
    ],
)
def test_a_broken_override_is_one_line_that_names_the_place(tmp_path: Path, text: str, named: str) -> None:
    assert named in complaint(tmp_path, text)


def test_a_text_model_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        CatalogError, match=r"GEMINI_TEXT_MODEL: gemini has no text model 'gemini-3-pro-image'; known: gem"
    ):
        load_catalog(NOWHERE, default_models={}, text_models={"gemini": "gemini-3-pro-image"})
    catalog = load_catalog(NOWHERE, default_models={}, text_models={"gemini": "gemini-2.5-flash"})
    assert catalog.find("gemini", None, Capability.TEXT, TODAY).id == "gemini-2.5-flash"


def test_an_override_that_is_no_text_or_no_file_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match=r"models\.toml"):
        load_catalog(tmp_path / "models.toml", default_models={})
    (tmp_path / "folder").mkdir()
    with pytest.raises(CatalogError, match="folder"):
        load_catalog(tmp_path / "folder", default_models={})


async def test_a_default_model_that_nobody_knows_stops_the_start_and_names_the_known_ones(
    redis_url: str, tmp_path: Path
) -> None:
    settings = load_settings(
        {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "GEMINI_IMAGE_MODEL": "gemini-4-image"}
    )
    with pytest.raises(CatalogError) as raised:
        async with open_container(settings, Metrics()):
            raise AssertionError("it started")
    line = str(raised.value)
    assert "\n" not in line
    for name in ("GEMINI_IMAGE_MODEL", "gemini-4-image", "gemini-3-pro-image", "gemini-nano-banana-2.1"):
        assert name in line


def test_a_process_with_a_broken_override_ends_with_that_line(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[models.demo]\nresolutions = "1K"\n', encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, "-m", "services.worker"],
        cwd=ROOT,
        env=kept | {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "models.demo.resolutions" in line


async def test_an_ended_model_is_refused_with_its_successor(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    for name in ("imagen-4", "imagen-4.0-generate-001"):
        response = await guest.generate(model=name)
        assert response.status_code == 422
        (field,) = error_of(response)["details"]["fields"]
        assert (field["field"], field["reason"], field["hint"]) == ("model", "model_ended", "gemini-3-pro-image")
        assert "gemini-3-pro-image" in field["message"]
        assert "imagen-4.0-generate-001" not in field["allowed"]
    assert image_calls(gemini) == []
    assert await guest.used() == 0


async def test_an_unknown_model_is_refused_with_the_known_ones(gemini_service: RunningService) -> None:
    response = await (await gemini_service.guest()).generate(model="gemini-4-image")
    (field,) = error_of(response)["details"]["fields"]
    assert field["reason"] == "not_allowed"
    assert "gemini-3-pro-image" in field["allowed"]
    assert "demo" not in field["allowed"]


async def test_a_model_near_its_end_says_so_in_headers(open_service: OpenService, tmp_path: Path) -> None:
    last = TODAY + timedelta(days=30)
    override_catalog(tmp_path, f"[models.demo]\ndeprecated_on = 2026-06-01\nends_on = {last.isoformat()}\n")
    response = await (await (await open_service()).guest()).generate()
    assert response.status_code == 200
    assert response.headers["deprecation"] == f"@{int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())}"
    assert response.headers["sunset"] == f"{last:%a, %d %b %Y} 23:59:59 GMT"


async def test_a_model_with_no_end_in_sight_has_no_such_headers(service: RunningService) -> None:
    response = await (await service.guest()).generate()
    assert not {"deprecation", "sunset"} & set(response.headers)


async def test_a_model_that_ended_by_override_names_its_successor(open_service: OpenService, tmp_path: Path) -> None:
    override_catalog(tmp_path, '[models.demo]\nends_on = 2026-01-01\nsuccessor = "gemini-3-pro-image"\n')
    response = await (await (await open_service()).guest()).generate()
    (field,) = error_of(response)["details"]["fields"]
    assert (field["reason"], field["hint"]) == ("model_ended", "gemini-3-pro-image")


@pytest.mark.parametrize(
    ("query", "unit", "total"),
    [
        ({}, 0.134, 0.134),
        ({"resolution": "4K", "count": 10}, 0.24, 2.4),
        ({"model": "nano-banana-2", "resolution": "2K", "count": 3}, 0.0504, 0.1512),
        ({"provider": "demo", "count": 4}, 0.0, 0.0),
    ],
)
async def test_an_estimate_follows_the_catalog(
    gemini_service: RunningService, query: dict[str, str | int], unit: float, total: float
) -> None:
    guest = await gemini_service.guest()
    data = (await guest.client.get("/api/generate/estimate", params=query)).json()["data"]
    assert data == {"unit_cost": unit, "total_cost": total, "currency": "USD"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"resolution": "8K"}, "resolution"),
        ({"model": "nano-banana", "resolution": "4K"}, "resolution"),
        ({"model": "imagen-4"}, "model"),
        ({"provider": "dall-e"}, "provider"),
        ({"count": "11"}, "count"),
        ({"count": "0"}, "count"),
    ],
)
async def test_an_estimate_of_what_cannot_be_made_is_refused_by_name(
    gemini_service: RunningService, query: dict[str, str], field: str
) -> None:
    guest = await gemini_service.guest()
    response = await guest.client.get("/api/generate/estimate", params=query)
    assert response.status_code == 422
    assert [entry["field"] for entry in error_of(response)["details"]["fields"]] == [field]


async def test_an_operators_price_is_the_estimates(open_service: OpenService, tmp_path: Path) -> None:
    override_catalog(tmp_path, "[models.gemini-3-pro-image]\nprices = { 1K = 1.25 }\n")
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY)
    guest = await service.guest()
    data = (await guest.client.get("/api/generate/estimate", params={"count": 2})).json()["data"]
    assert (data["unit_cost"], data["total_cost"]) == (1.25, 2.5)
