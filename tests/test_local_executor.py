"""The local executor: every shard once, errors as raised, workers that do not outlive what started them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from facesyn import registry
from facesyn.errors import ImageError, RunError, UsageError
from facesyn.protocols import Executor


def write(folder: Path, shard: int) -> None:
    (folder / str(shard)).write_text(str(os.getpid()))


def fail_at_three(folder: Path, shard: int) -> None:
    if shard == 3:
        raise ImageError("three is corrupt", hint="leave it out")
    write(folder, shard)


def die(shard: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Awkward(Exception):
    """Cannot be pickled."""

    def __init__(self, one: int, two: int):
        super().__init__(f"{one} and {two}")


def fail_awkwardly(shard: int) -> None:
    raise Awkward(1, 2)


def local(workers: int) -> Executor:
    executor: Executor = registry.create("executor", "local", {"workers": workers})
    return executor


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_shard_is_worked_on_once_elsewhere(tmp_path: Path, workers: int) -> None:
    done: list[int] = []
    local(workers).run(partial(write, tmp_path), range(4), done.append)
    assert sorted(done) == [0, 1, 2, 3]
    processes = {path.read_text() for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 4 and 1 <= len(processes) <= workers
    assert str(os.getpid()) not in processes


def test_the_first_error_is_raised_here(tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(ImageError, match="three is corrupt") as caught:
        local(1).run(partial(fail_at_three, tmp_path), [1, 2, 3, 4], done.append)
    assert caught.value.hint == "leave it out"
    assert done == [1, 2] and not (tmp_path / "4").exists()


def test_an_error_that_cannot_be_pickled_still_says_what_it_was() -> None:
    with pytest.raises(Exception, match="1 and 2"):
        local(1).run(fail_awkwardly, [0], print)


def test_a_killed_worker_is_a_run_error() -> None:
    with pytest.raises(RunError, match="making shard 7 was killed"):
        local(2).run(die, [7], print)


def test_no_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="At least one worker"):
        local(0)


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from facesyn import registry

def work(folder, shard):
    while True:
        (folder / "beat").write_text(str(time.monotonic()))
        time.sleep(0.02)

if __name__ == "__main__":
    registry.create("executor", "local", {"workers": 1}).run(partial(work, Path(sys.argv[1])), [0], print)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    beat, deadline = tmp_path / "beat", time.monotonic() + 30
    while not beat.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.5)
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last
