"""Under any executor a recipe gives the same dataset, though workers die; what always kills them is set apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesyn.executors import ATTEMPTS
from facesyn.stages.transfers import transfer_seed

from .conftest import Toy

Hashes = Callable[[Path], dict[str, str]]


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "ray":
        pytest.importorskip("ray", reason="the ray extra is not installed")
    return ["--executor", request.param, "--workers", "2"]


def test_a_worker_killed_in_mid_shard_changes_nothing(
    toy: Toy, finished: Path, hashes: Hashes, executor: list[str], tmp_path: Path
) -> None:
    result = toy.build(tmp_path / "out", *executor, "--json", TOY_DEADLY=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "killed").exists() and result.stdout.startswith("{")
    assert hashes(tmp_path / "out") == hashes(finished)


def test_a_deadly_shard_is_named_the_others_are_made_and_it_is_tried_again(
    toy: Toy, finished: Path, hashes: Hashes, executor: list[str], tmp_path: Path
) -> None:
    (tmp_path / "killed").touch()
    (tmp_path / "poison").write_text(str(transfer_seed(5, "000004", 0)))
    output = tmp_path / "out"
    result = toy.build(output, *executor, "--executor-option", "attempts=2", TOY_DEADLY=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr and result.stdout == ""
    assert "Shards given up, because their worker died every time: 2; the other 4 are made." in result.stderr
    assert sorted(path.parent.name for path in output.glob("shards/*/DONE")) == ["00000", "00001", "00003", "00004"]
    assert not (output / "images" / "metadata.jsonl").exists() and ATTEMPTS > 2
    (tmp_path / "poison").unlink()
    result = toy.build(output, "--workers", 1)
    assert result.returncode == 0 and "24 of 30 images are there" in result.stderr
    assert hashes(output) == hashes(finished)


def test_an_option_the_executor_does_not_have_is_named(refused: Callable[..., Any], tmp_path: Path) -> None:
    result = refused(tmp_path / "out", "--executor-option", "adress=x")
    assert result.exit_code == 2 and "has no option 'adress'" in result.stderr
