"""The local executor: shards in processes of this machine. Knows nothing of what a shard is."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from facesyn.errors import BackendError, RunError, UsageError


class LocalExecutor:
    """Works on shards in `workers` fresh processes (as many as there are processor cores by default).

    One worker is a process too, so that one and many run the same code. Processes are spawned: a script that
    calls this needs the usual `if __name__ == "__main__":`. Workers end with this process, however it ends.
    """

    def __init__(self, workers: int | None = None):
        if workers is not None and workers < 1:
            raise UsageError(f"At least one worker is needed, not {workers}.")
        self.workers = workers or _cores()

    def run(self, work: Callable[[int], None], shards: Sequence[int], on_done: Callable[[int], None]) -> None:
        """See `facesyn.protocols.Executor`. Raises RunError where a worker is killed."""
        waiting = list(reversed(shards))
        processes: list[BaseProcess] = []
        busy: dict[Connection, int] = {}
        try:
            for _ in range(min(self.workers, len(waiting))):
                process, connection = _start(work)
                processes.append(process)
                busy[connection] = _send(connection, waiting.pop())
            while busy:
                for connection in cast("list[Connection]", wait(list(busy))):
                    shard = busy.pop(connection)
                    error = _receive(connection, shard)
                    if error is not None:
                        raise error
                    on_done(shard)
                    if waiting:
                        busy[connection] = _send(connection, waiting.pop())
                    else:
                        connection.close()  # the worker leaves on end of file
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        finally:
            for process in processes:  # all told to leave, which they do in good order
                process.join()


def _cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(work: Callable[[int], None]) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(work, there), daemon=True)
    with _interrupts_held():
        process.start()
    there.close()  # so that a dead worker reads as end of file here
    return process, here


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds back SIGINT. Children inherit that: Ctrl-C reaches the whole group, the parent answers."""
    resource_tracker.ensure_running()  # would let SIGINT through again if the first start had to start it too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(connection: Connection, shard: int) -> int:
    try:
        connection.send(shard)
    except (BrokenPipeError, ConnectionResetError):
        raise _killed(shard) from None
    return shard


def _receive(connection: Connection, shard: int) -> BaseException | None:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionResetError):
        raise _killed(shard) from None
    assert answer is None or isinstance(answer, BaseException)
    return answer


def _killed(shard: int) -> RunError:
    return RunError(
        f"The worker process making shard {shard} was killed.",
        hint="Run the same command again: finished shards are kept. If memory ran out, use fewer workers.",
    )


def _serve(work: Callable[[int], None], connection: Connection) -> None:
    """A worker's life: a shard number in, None or an exception out, until the pipe closes."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    while True:
        try:
            shard = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            work(shard)
        except Exception as error:
            connection.send(_portable(error))
        else:
            connection.send(None)


def _leave_with_parent() -> None:
    """Ends this process as soon as its parent is gone, even in the middle of a shard."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The exception with its traceback as a note, or a BackendError where it cannot be pickled."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BackendError(f"{type(error).__name__}: {error}")
    return error
