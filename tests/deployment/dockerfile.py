"""What the Dockerfile says of the image, for tests that do as an engine would, where there is none."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL_OF_IT = re.compile(r"^CMD (\[.*\])$")
CHECK = re.compile(r"^HEALTHCHECK .*?CMD (\[.*\])$")


@dataclass(frozen=True)
class Image:
    """The last stage. `copied`: names in the project that are copied to the same names in `workdir`."""

    workdir: str
    user: str
    environment: dict[str, str]
    command: list[str]
    healthcheck: list[str]
    volumes: list[str]
    copied: list[str]

    def lay_out(self, folder: Path) -> None:
        """Copy what the image would hold of the project, and nothing else."""
        for name in self.copied:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def read_image() -> Image:
    lines = _instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    stage = lines[last:]
    pairs = [pair for line in _after(stage, "ENV") for pair in shlex.split(line)]
    return Image(
        workdir=_after(stage, "WORKDIR")[-1],
        user=_after(stage, "USER")[-1],
        environment=dict(pair.split("=", 1) for pair in pairs),
        command=_command(stage, ALL_OF_IT),
        healthcheck=_command(stage, CHECK),
        volumes=_after(stage, "VOLUME"),
        copied=[_same_name(line) for line in _after(stage, "COPY") if not line.startswith("--from=")],
    )


def _instructions(text: str) -> list[str]:
    """One line each, without comments."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [" ".join(line.split()) for line in kept.replace("\\\n", " ").splitlines() if line.strip()]


def _after(stage: list[str], instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in stage if line.startswith(f"{instruction} ")]


def _command(stage: list[str], pattern: re.Pattern[str]) -> list[str]:
    (found,) = [match for line in stage if (match := pattern.match(line))]
    words: list[str] = json.loads(found[1])
    return words


def _same_name(copy: str) -> str:
    source, target = copy.split()
    assert target == f"./{source}", copy
    return source
