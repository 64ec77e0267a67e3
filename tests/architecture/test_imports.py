"""Which way imports lean: api → services → core, api → i18n; a store is its own domain's alone."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("api", "core", "services", "i18n")
MAY_IMPORT = {
    "api": {"api", "services", "core", "i18n"},
    "services": {"services", "core"},
    "core": {"core"},
    "i18n": {"i18n"},
}
HTTP_FRAMEWORKS = {"fastapi", "starlette", "uvicorn"}
# Modules of a domain that only the domain itself and the composition root may know.
PRIVATE_MODULES = {"store", "scripts", "holds", "sessions", "users", "ledger"}
COMPOSITION_ROOT = "services/container.py"
FEWEST_IMPORTS = 300


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    at_top: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_of(path: Path) -> list[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top_level = set(tree.body)
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            top_level |= set(block.body)
    file = path.relative_to(ROOT).as_posix()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(file, node.lineno, alias.name, node in top_level) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            for alias in node.names:
                found.append(Import(file, node.lineno, f"{node.module}.{alias.name}", node in top_level))
    return found


def all_imports() -> list[Import]:
    return [
        found for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for found in imports_of(path)
    ]


def test_there_is_something_to_read() -> None:
    assert len(all_imports()) > FEWEST_IMPORTS


def test_imports_lean_the_right_way() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if found.package in PACKAGES and found.package not in MAY_IMPORT[found.file.partition("/")[0]]
    ]
    assert wrong == []


def test_only_the_api_knows_http() -> None:
    wrong = [
        str(found) for found in all_imports() if found.package in HTTP_FRAMEWORKS and not found.file.startswith("api/")
    ]
    assert wrong == []


def test_a_domain_reaches_another_through_its_service() -> None:
    wrong = []
    for found in all_imports():
        parts = found.module.split(".")
        private = parts[0] == "services" and len(parts) > 2 and parts[2] in PRIVATE_MODULES
        if private and found.file != COMPOSITION_ROOT and not found.file.startswith(f"services/{parts[1]}/"):
            wrong.append(str(found))
    assert wrong == []


def test_no_imports_inside_functions() -> None:
    assert [str(found) for found in all_imports() if not found.at_top] == []


def test_the_environment_is_read_at_process_entries_alone() -> None:
    entries = {"core/settings.py", "api/__main__.py", "services/worker.py"}
    readers = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "os.environ" in path.read_text(encoding="utf-8") or "getenv" in path.read_text(encoding="utf-8")
    }
    assert readers <= entries


def loaded_of(rare: set[str], program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print({rare!r} & sys.modules.keys())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_not_every_installation_uses_is_imported_where_it_is_used() -> None:
    """PostgreSQL would add a third of a second to each start, what signs for a bucket 5 MB to each process, the demo's
    brushes 3 MB, what cleans a provider's HTML 2 MB; moving in is a command's alone.
    """
    program = (
        "import api.__main__, services.worker, scripts.serve; from pathlib import Path; "
        "from core.clients.database import open_database; open_database('', Path('nbl.db'), 1)"
    )
    rare = {
        "asyncpg",
        "sqlalchemy.dialects.postgresql",
        "boto3",
        "botocore",
        "services.providers.demo.art",
        "nh3",
        "services.legacy",
        "rjieba",
        "pyroaring",
    }
    assert loaded_of(rare, program) == "set()\n"


def test_a_bucket_is_used_without_boto3() -> None:
    """Its description of S3 would add 13 MB to each process."""
    assert loaded_of({"boto3", "botocore.session", "botocore.client"}, "import services.storage.bucket") == "set()\n"
