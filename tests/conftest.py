"""Fixtures of all tests: a clean environment, the command line in this process, the optional data."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable or cache of the developer's reaches a test, and no test reaches the network."""
    for name in list(os.environ):
        if name.startswith(("FACESYN_", "OPENAI_")) and name != "FACESYN_SHARED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("FACESYN_OFFLINE", "1")
    monkeypatch.setenv("FACESYN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def facesyn() -> Run:
    """Run `facesyn ARGUMENTS…` in this process; the result has exit_code, stdout and stderr."""
    from facesyn.cli import app

    def run(*arguments: object, **options: Any) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="facesyn", **options)

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of assets and held-out renders, which is no part of the repository."""
    folder = Path(os.environ.get("FACESYN_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no held-out renders: {folder}/data is missing (set FACESYN_SHARED)")
    return folder
