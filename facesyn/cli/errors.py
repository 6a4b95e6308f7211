"""One table from exceptions to what the command line says and how it exits. Knows no command."""

import errno
import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from facesyn.errors import FacesynError
from facesyn.out import out

INTERRUPTED = 130
TERMINATED = 143

_OS_ERRORS = {
    errno.ENOSPC: ("The disk is full", "Free some space and run the same command again."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space and run the same command again."),
    errno.EFBIG: ("The file would be larger than allowed here", "Raise the file size limit (ulimit -f)."),
    errno.EROFS: ("The file system is read-only", "Choose another folder."),
    errno.EACCES: ("No permission", "Choose another folder, or change its permissions."),
    errno.EPERM: ("Not permitted", "Choose another folder, or change its permissions."),
    errno.ENOENT: ("No such file or folder", None),
    errno.EEXIST: ("Exists already", "Choose another folder."),
    errno.ENOTDIR: ("Not a folder", None),
    errno.EISDIR: ("A folder, not a file", None),
    errno.EMFILE: ("Too many open files", "Raise the limit (ulimit -n)."),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, from a scheduler or a service manager. What ends in good order on one does on the other."""


def terminate(number: int, frame: Any) -> None:
    """Handles SIGTERM."""
    raise Terminated


class Commands(TyperGroup):
    """A group whose commands end in an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that is gone shows here, not while the interpreter shuts down
            return result
        except (KeyboardInterrupt, Exception) as error:
            if type(error).__module__.startswith("typer."):
                raise  # typer's own: a usage error, or a clean exit
            raise typer.Exit(report(error)) from error


def report(error: BaseException) -> int:
    """Say what went wrong on stderr; return the exit code."""
    if isinstance(error, BrokenPipeError):
        # `facesyn prompts | head`: the reader has all it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 0
    if os.environ.get("FACESYN_DEBUG"):
        out.note("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, Terminated):
        out.note("Terminated.")
        return TERMINATED
    if isinstance(error, KeyboardInterrupt):
        out.note("Interrupted.")
        return INTERRUPTED
    known = describe(error)
    out.error(known)
    return known.exit_code


def describe(error: BaseException) -> FacesynError:
    """The error as one sentence and a hint."""
    if isinstance(error, FacesynError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        what, hint = _OS_ERRORS.get(error.errno, (error.strerror or "The system refused", None))
        where = f": {error.filename}" if error.filename else ""
        return FacesynError(f"{what}{where}.", hint=hint)
    # torch's class, told by its name, so that torch is not imported to say that something else went wrong
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return FacesynError("Out of memory.", hint="Try a smaller --batch-size, or --dtype bf16.")
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return FacesynError(
        f"Unexpected {type(error).__name__}: {first}",
        hint="This is a fault of facesyn or of a backend; FACESYN_DEBUG=1 shows where.",
    )
