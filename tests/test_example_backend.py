"""The third-party example, installed as a stranger's package would be, and used from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "example_backend"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it."""
    pytest.importorskip("setuptools", reason="building the example needs setuptools (pip install '.[dev]')")
    folder = tmp_path_factory.mktemp("example")
    copy = shutil.copytree(EXAMPLE, folder / "source")  # a build leaves files in its source
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", folder / "site", copy], check=True, capture_output=True)
    return folder / "site"


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def test_list_shows_it_without_importing_it(site: Path) -> None:
    result = python(site, "-m", "facesyn", "backends", "list", "--json")
    listed = {(entry["role"], entry["name"]): entry for entry in json.loads(result.stdout)}
    assert listed["generator", "sketch"]["package"] == "facesyn-sketch"
    assert listed["generator", "broken"]["target"] == "facesyn_sketch.missing:Nothing"
    assert ("prompter", "plain") in listed and ("prompter", "template") in listed

    probe = "import sys; from facesyn.registry import entries; entries(); print('facesyn_sketch' in sys.modules)"
    assert python(site, "-c", probe).stdout == "False\n"


def test_check_says_why_one_cannot_run(site: Path) -> None:
    result = python(site, "-m", "facesyn", "backends", "check", "--json")
    reasons = {(entry["role"], entry["name"]): entry["reason"] for entry in json.loads(result.stdout)}
    assert reasons["generator", "sketch"] is None
    assert "Oil paint has not been invented for computers." in reasons["generator", "oil"]
    assert "pip install 'facesyn-sketch[oil]'" in reasons["generator", "oil"]
    assert "No module named 'facesyn_sketch.missing'" in reasons["generator", "broken"]


def test_prompts_uses_it_with_its_options(site: Path) -> None:
    command = ["-m", "facesyn", "prompts", "-n", "4", "--backend", "plain"]
    result = python(site, *command, "--option", "opening=pencil drawing of")
    prompts = [json.loads(line)["prompt"] for line in result.stdout.splitlines()]
    assert len(prompts) == 4 and all(prompt.startswith("pencil drawing of a") for prompt in prompts)

    refused = python(site, *command, "--option", "openning=x")
    assert refused.returncode == 2 and "Did you mean 'opening'?" in refused.stderr


def test_its_contract_suites_pass(site: Path) -> None:
    result = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_contracts.py"))
    assert result.returncode == 0, result.stdout
