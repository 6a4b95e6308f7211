"""The Ray executor on a real cluster of two workers, begun for this module."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from facesyn import registry
from facesyn.errors import BackendError, ImageError, UsageError
from facesyn.executors import ATTEMPTS
from facesyn.testing import ExecutorContract

ray = pytest.importorskip("ray", reason="the ray extra is not installed")


def work(folder: Path, shard: int) -> None:
    """Leaves a file; is killed at shard 2 every time, at shard 3 the first time, and fails at shard 13."""
    with open(folder / "attempts", "a") as attempts:
        attempts.write(f"{shard}\n")
    first = not (folder / "three").exists()
    if shard == 3:
        (folder / "three").touch()
    if shard == 2 or (shard == 3 and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if shard == 13:
        raise ImageError("13 is corrupt", hint="leave it out")
    (folder / str(shard)).write_text(f"{os.environ['OMP_NUM_THREADS']} {os.getcwd()}")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where workers find this module
        yield
    ray.shutdown()


def executor(**options: Any) -> Any:
    return registry.create("executor", "ray", {"workers": 2, **options})


class TestRayExecutor(ExecutorContract):
    def make(self) -> Any:
        return executor()


def test_dead_workers_are_replaced_and_a_deadly_shard_is_given_up(tmp_path: Path) -> None:
    done: list[int] = []
    assert executor().run(partial(work, tmp_path), [1, 2, 3, 4, 5], done.append) == [2]
    assert sorted(done) == [1, 3, 4, 5]
    attempts = (tmp_path / "attempts").read_text().split()
    assert {shard: attempts.count(shard) for shard in set(attempts)} == {
        "1": 1,
        "2": ATTEMPTS,
        "3": 2,
        "4": 1,
        "5": 1,
    }
    assert (tmp_path / "4").read_text() == f"1 {os.getcwd()}"  # one thread, and paths mean the same


def test_an_error_keeps_its_class_and_hint(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="13 is corrupt") as caught:
        executor().run(partial(work, tmp_path), [13], print)
    assert caught.value.hint == "leave it out"


def test_a_cluster_that_is_too_small_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="too little for 2 workers of 1 CPU and 1 GPU each"):
        executor(num_gpus=1).run(partial(work, tmp_path), [1], print)
    ray.shutdown()
    with pytest.raises(BackendError, match="Cannot reach the Ray cluster 127.0.0.1:1"):
        executor(address="127.0.0.1:1").run(partial(work, tmp_path), [1], print)


def test_senseless_options_are_refused() -> None:
    for options in ({"workers": 0}, {"attempts": 0}, {"num_cpus": 0}, {"num_gpus": -1}):
        with pytest.raises(UsageError):
            executor(**options)
