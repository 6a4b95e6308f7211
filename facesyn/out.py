"""What facesyn says: data on stdout, everything else on stderr. Knows nothing of what is said."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from facesyn.errors import FacesynError

PLAIN_INTERVAL = 10.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


class Advance(Protocol):
    """Tells a progress bar that work was done."""

    def __call__(self, steps: int = 1) -> None: ...


class Output:
    """The one way to print. Looks up streams and environment at every call, so that both may change."""

    def line(self, text: str) -> None:
        """One line of data."""
        print(text, file=sys.stdout)

    def json(self, value: Any) -> None:
        """Data for programs."""
        self.line(json.dumps(value, ensure_ascii=False, indent=2))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], stream: TextIO | None = None) -> None:
        """Data for people, in aligned columns, on stdout or another stream."""
        stream = stream or sys.stdout
        cells = [[str(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]

        def aligned(row: Sequence[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

        print(_styled(aligned(columns), "1", stream), file=stream)
        for row in cells:
            print(aligned(row), file=stream)

    def note(self, text: str) -> None:
        """What is going on."""
        print(text, file=sys.stderr)

    def hint(self, text: str) -> None:
        """The next step to take."""
        self.note(f"{_styled('hint:', '36', sys.stderr)} {text}")

    def warning(self, text: str) -> None:
        self.note(f"{_styled('warning:', '33', sys.stderr)} {text}")

    def error(self, error: FacesynError) -> None:
        """The one sentence, then the hint."""
        self.note(f"{_styled('error:', '31', sys.stderr)} {error}")
        if error.hint:
            self.hint(error.hint)

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A bar on stderr with rate and time left; yields the function that advances it.

        `done` steps of `total` were finished before and do not count into the rate. Without a terminal there
        is at most a line every ten seconds; with FACESYN_NO_PROGRESS there is nothing.
        """
        if os.environ.get("FACESYN_NO_PROGRESS"):
            yield _ignore
        elif sys.stderr.isatty():
            with _bar(label, total, done) as advance:
                yield advance
        else:
            yield _occasional_lines(label, total, done)


def _ignore(steps: int = 1) -> None:
    """Progress nobody wants to see."""


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    start, finished = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="")

        def advance(steps: int = 1) -> None:
            nonlocal finished
            finished += steps
            rate = finished / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=steps, rate=f"{rate:.2g}/s")

        yield advance


def _occasional_lines(label: str, total: int, done: int) -> Advance:
    start = said = time.monotonic()
    finished = 0

    def advance(steps: int = 1) -> None:
        nonlocal finished, said
        finished += steps
        now = time.monotonic()
        if now - said >= PLAIN_INTERVAL:
            said = now
            rate = finished / (now - start)
            left = (total - done - finished) / rate
            print(f"{label}: {done + finished} of {total}, {rate:.2g}/s, {left:.0f} s left", file=sys.stderr)

    return advance


def _styled(text: str, code: str, stream: TextIO) -> str:
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\033[{code}m{text}\033[0m"


out = Output()
