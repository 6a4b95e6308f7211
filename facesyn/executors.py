"""What all executors share: how often a shard is tried whose worker dies, and errors that travel between processes.

Knows no engine and no shard. An error in a shard is not tried again, it would come again: it is raised at once.
"""

import pickle
import traceback

from facesyn.errors import BackendError, RunError, UsageError

ATTEMPTS = 3
HOPELESS = 5
"""Shards given up in a row after which the machine is at fault and not the shards."""


class Attempts:
    """Counts how often each shard was begun, so that one whose worker dies every time is given up."""

    def __init__(self, limit: int = ATTEMPTS):
        self.limit, self.given_up = limit, list[int]()
        self._begun: dict[int, int] = {}
        self._in_a_row = 0

    def begin(self, shard: int) -> bool:
        """Whether to work on `shard`; False once it was begun `limit` times and never finished.

        Raises RunError where one shard after the other had to be given up.
        """
        begun = self._begun.get(shard, 0)
        if begun < self.limit:
            self._begun[shard] = begun + 1
            return True
        if shard not in self.given_up:
            self.given_up.append(shard)
            self._in_a_row += 1
        if self._in_a_row >= HOPELESS:
            raise RunError(
                f"Workers die on every shard: {HOPELESS} in a row, each {self.limit} times.",
                hint="If memory ran out, use fewer workers. Finished shards are kept.",
            )
        return False

    def done(self, shard: int) -> None:
        """`shard` was finished."""
        self._in_a_row = 0
        self._begun.pop(shard, None)


def check_counts(workers: int | None, attempts: int) -> None:
    """Raises UsageError where there would be no worker or no attempt."""
    if workers is not None and workers < 1:
        raise UsageError(f"At least one worker is needed, not {workers}.")
    if attempts < 1:
        raise UsageError(f"At least one attempt is needed, not {attempts}.")


def portable(error: Exception) -> Exception:
    """The exception with its traceback as a note, or a BackendError where it cannot be pickled."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return BackendError(f"{type(error).__name__}: {error}")
    return error
