"""What is installed is what is in the tree: what is forgotten works editable and fails from a wheel."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]

NOT_SHIPPED = {".pyc", ".pyo", ".tmp"}


def tree() -> set[str]:
    """Every file of the mapped folders, under the name it is installed by. Hidden files are nobody's data."""
    files = {}
    for package, folder in FOLDERS.items():
        for file in (ROOT / folder).rglob("*"):
            inside = file.relative_to(ROOT / folder)
            if file.is_file() and file.suffix not in NOT_SHIPPED and not _hidden(inside):
                files[str(file)] = f"{package}/{inside.as_posix()}"
    return {files[file] for file in files.keys() - _ignored(files.keys())}


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in path.parts)


def _ignored(files: Collection[str]) -> set[str]:
    """Those that git ignores, so that they are no part of the tree."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return set()
    command, listing = ["git", "check-ignore", "--stdin"], "\n".join(files)
    return set(subprocess.run(command, cwd=ROOT, input=listing, capture_output=True, text=True).stdout.splitlines())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from a copy of the tree, without its metadata."""
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools (pip install '.[dev]')")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in {*FOLDERS.values()}:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", folder, source], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel: set[str]) -> None:
    expected = tree()
    assert expected - wheel == set(), "not shipped: list the package or its kind of data in pyproject.toml"
    assert wheel - expected == set(), "shipped, but not in the tree"


def test_every_package_is_listed() -> None:
    packages = {file.rpartition("/")[0].replace("/", ".") for file in tree() if file.endswith("/__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages


def test_every_entry_point_leads_to_a_module_of_the_tree() -> None:
    files = tree()
    for group in PROJECT["project"]["entry-points"].values():
        for target in group.values():
            module = target.partition(":")[0].replace(".", "/")
            assert f"{module}.py" in files or f"{module}/__init__.py" in files, target


def test_core_never_imports_a_backend_or_prompts_by_name() -> None:
    for file in (ROOT / "facesyn").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert not words[1].startswith(("facesyn_backends", "facesyn_prompts", "backends", "prompts")), file


def test_the_version_is_one() -> None:
    from importlib import metadata

    import facesyn

    assert metadata.version("facesyn") == facesyn.__version__
