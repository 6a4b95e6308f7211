"""The frame of the command line: commands, errors, exit codes, output."""

import errno
import os
import pkgutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from typer.main import get_command

import facesyn.cli
from facesyn import __version__
from facesyn.cli.errors import describe, report
from facesyn.errors import ImageError, RecordError, UsageError
from facesyn.out import out

NO_COMMANDS = {"errors", "options"}
OF_OTHERS = {"evaluate_models", "recipes"}
"""Commands below `evaluate` and `dataset`."""


def test_every_module_of_the_cli_is_a_registered_command() -> None:
    modules = {module.name for module in pkgutil.iter_modules(facesyn.cli.__path__)} - NO_COMMANDS - OF_OTHERS
    assert modules == set(get_command(facesyn.cli.app).commands)  # type: ignore[attr-defined]


def test_version(facesyn: Any) -> None:
    assert facesyn("--version").stdout == f"facesyn {__version__}\n"


def test_an_unknown_command_is_a_usage_error(facesyn: Any) -> None:
    result = facesyn("promts")
    assert result.exit_code == 2 and "promts" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("No such cell.", hint="Try another."), 2, "error: No such cell.\nhint: Try another.\n"),
        (RecordError("rows, line 3: bad."), 2, "error: rows, line 3: bad.\n"),
        (ImageError("a.png is corrupt."), 1, "error: a.png is corrupt.\n"),
        (
            OSError(errno.ENOSPC, "No space left", "/d/a.png"),
            1,
            "error: The disk is full: /d/a.png.\nhint: Free",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/d"), 1, "error: No permission: /d.\n"),
        (FileNotFoundError(errno.ENOENT, "x", "/d"), 1, "error: No such file or folder: /d.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (MemoryError(), 1, "error: Out of memory.\nhint: Try a smaller --batch-size"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: Unexpected ZeroDivisionError: division by zero\nhint: ",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_are_one_sentence_a_hint_and_a_code(
    error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(says) and "Traceback" not in said.err


def test_torch_running_out_of_memory_is_told_without_torch() -> None:
    OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
    assert "Out of memory" in str(describe(OutOfMemoryError("CUDA out of memory")))


def test_debug_shows_the_traceback(facesyn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESYN_DEBUG", "1")
    result = facesyn("prompts", "-n", 1, "--backend", "nobody")
    assert result.exit_code == 2 and "Traceback" in result.stderr and "nobody" in result.stderr


def test_a_full_disk_is_one_sentence() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "facesyn", "prompts", "-n", "4"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and result.stderr.startswith("error: The disk is full.")
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


def test_ctrl_c_exits_130_with_a_word() -> None:
    command = [sys.executable, "-m", "facesyn", "prompts", "-n", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == "Interrupted.\n"
    assert process.returncode == 130


def test_options_come_from_the_environment_where_no_flag_is_given(facesyn: Any) -> None:
    by_flag = facesyn("prompts", "-n", 2, "--seed", 5).stdout
    assert facesyn("prompts", "-n", 2, env={"FACESYN_SEED": "5"}).stdout == by_flag
    assert facesyn("prompts", "-n", 2, "--seed", 5, env={"FACESYN_SEED": "6"}).stdout == by_flag


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    out.table(("name", "size"), [("a", 1), ("longer", 22)])
    assert capsys.readouterr().out == "name    size\na       1\nlonger  22\n"


def test_progress_without_a_terminal_is_silent_at_first(capsys: pytest.CaptureFixture[str]) -> None:
    with out.progress("work", total=3) as advance:
        for _ in range(3):
            advance()
    assert capsys.readouterr() == ("", "")


def test_progress_without_a_terminal_says_rate_and_time_left_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facesyn.out.PLAIN_INTERVAL", 0.0)
    with out.progress("work", total=10, done=5) as advance:
        time.sleep(0.01)
        advance(2)
    said = capsys.readouterr().err
    assert said.startswith("work: 7 of 10, ") and "/s, " in said and said.endswith(" s left\n")


BAR = """
import time
from facesyn.out import out
with out.progress("work", 4) as advance:
    advance(3)
    time.sleep(0.3)
"""


def test_progress_on_a_terminal_is_a_bar_on_stderr() -> None:
    pty = pytest.importorskip("pty", reason="a terminal needs POSIX")
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    result = subprocess.run([sys.executable, "-c", BAR], stdout=subprocess.PIPE, stderr=follower, env=environment)
    os.close(follower)
    said = os.read(leader, 65536).decode()
    os.close(leader)
    assert result.stdout == b"" and "work" in said and "3/4" in said and "/s" in said
    quiet = subprocess.run(
        [sys.executable, "-c", BAR], env={**environment, "FACESYN_NO_PROGRESS": "1"}, capture_output=True
    )
    assert quiet.stderr == b""
