"""The local executor: shards in processes of this machine. Knows nothing of what a shard is."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from facesyn.executors import ATTEMPTS, Attempts, check_counts, portable


class LocalExecutor:
    """Works on shards in `workers` fresh processes (as many as there are processor cores by default).

    One worker is a process too, so that one and many run the same code. Processes are spawned: a script that
    calls this needs the usual `if __name__ == "__main__":`. Workers end with this process, however it ends.
    A worker that is killed is replaced, and its shard tried again after the others, `attempts` times in all.
    """

    def __init__(self, workers: int | None = None, attempts: int = ATTEMPTS):
        check_counts(workers, attempts)
        self.workers, self.attempts = workers or _cores(), attempts

    def run(self, work: Callable[[int], None], shards: Sequence[int], on_done: Callable[[int], None]) -> list[int]:
        """See `facesyn.protocols.Executor`."""
        attempts = Attempts(self.attempts)
        waiting = list(reversed(shards))
        processes: list[BaseProcess] = []
        idle: list[Connection] = []
        busy: dict[Connection, int] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    shard = waiting.pop()
                    if not attempts.begin(shard):
                        continue
                    if not idle:
                        process, connection = _start(work)
                        processes.append(process)
                        idle.append(connection)
                    connection = idle.pop()
                    with suppress(BrokenPipeError, ConnectionResetError):  # a dead worker shows when it is listened to
                        connection.send(shard)
                    busy[connection] = shard
                for connection in cast("list[Connection]", wait(list(busy)) if busy else []):
                    shard = busy.pop(connection)
                    try:
                        error = connection.recv()
                    except (EOFError, ConnectionResetError):
                        connection.close()
                        waiting.insert(0, shard)
                        continue
                    if error is not None:
                        raise error
                    attempts.done(shard)
                    on_done(shard)
                    idle.append(connection)
            for connection in idle:
                connection.close()  # the worker leaves on end of file
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        finally:
            for process in processes:  # all told to leave, which they do in good order
                process.join()
        return attempts.given_up


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
            connection.send(portable(error))
        else:
            connection.send(None)


def _leave_with_parent() -> None:
    """Ends this process as soon as its parent is gone, even in the middle of a shard."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
