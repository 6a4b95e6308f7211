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
from facesyn.executors import ATTEMPTS, HOPELESS
from facesyn.protocols import Executor


def write(folder: Path, shard: int) -> None:
    (folder / str(shard)).write_text(str(os.getpid()))


def fail_at_three(folder: Path, shard: int) -> None:
    if shard == 3:
        raise ImageError("three is corrupt", hint="leave it out")
    write(folder, shard)


def die(shard: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_two(folder: Path, shard: int) -> None:
    if shard == 2:
        with open(folder / "attempts", "a") as attempts:
            attempts.write("2\n")
        die(shard)
    write(folder, shard)


def die_once_at_two(folder: Path, shard: int) -> None:
    if (folder / "attempts").exists() and shard == 2:
        with open(folder / "attempts", "a") as attempts:
            attempts.write("2\n")
        write(folder, shard)
    else:
        die_at_two(folder, shard)


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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_is_tried_again_when_its_worker_dies(tmp_path: Path, workers: int) -> None:
    done: list[int] = []
    assert local(workers).run(partial(die_once_at_two, tmp_path), [1, 2, 3, 4], done.append) == []
    assert sorted(done) == [1, 2, 3, 4] and (tmp_path / "attempts").read_text() == "2\n2\n"


def test_a_shard_that_always_kills_its_worker_is_given_up_and_the_others_are_made(tmp_path: Path) -> None:
    done: list[int] = []
    assert local(2).run(partial(die_at_two, tmp_path), [1, 2, 3, 4], done.append) == [2]
    assert sorted(done) == [1, 3, 4] and (tmp_path / "attempts").read_text() == "2\n" * ATTEMPTS


def test_workers_that_die_on_everything_end_the_run() -> None:
    executor = registry.create("executor", "local", {"workers": 2, "attempts": 1})
    with pytest.raises(RunError, match=f"{HOPELESS} in a row"):
        executor.run(die, range(100), print)


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
