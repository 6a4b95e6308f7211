"""The Ray executor: shards in a Ray Data actor pool, on one machine or on a cluster. Knows nothing of what a shard is.

The run folder, models and banks must be reachable under the same paths on every machine of the cluster. What is
finished is told by the markers in the run folder; of Ray's own results only numbers of shards come back.
"""

import importlib.util
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

from facesyn.errors import BackendError, UsageError
from facesyn.executors import ATTEMPTS, Attempts, check_counts, portable

_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
"""Sums depend on how many threads share them, and Ray's workers import numpy before any work of ours."""


class RayExecutor:
    """Works on shards in `workers` actors (as many as the cluster has room for by default).

    `address` is that of a running cluster; without one RAY_ADDRESS says where, or a cluster of this machine is begun
    and ends with this process. Each actor asks for `num_cpus` and `num_gpus`, whole or in part. Ray restarts an actor
    that dies for as long as it takes; a shard is begun `attempts` times in all.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        attempts: int = ATTEMPTS,
    ):
        check_counts(workers, attempts)
        if num_cpus < 0 or num_gpus < 0 or not (num_cpus or num_gpus):
            raise UsageError(f"A worker cannot have {num_cpus} processors and {num_gpus} GPUs.")
        self.workers, self.address, self.attempts = workers, address, attempts
        self.num_cpus, self.num_gpus = num_cpus, num_gpus

    @classmethod
    def why_unavailable(cls) -> str | None:
        missing = [name for name in ("ray", "pyarrow", "pandas") if importlib.util.find_spec(name) is None]
        return f"It needs the packages of ray[data]; missing: {', '.join(missing)}." if missing else None

    def run(self, work: Callable[[int], None], shards: Sequence[int], on_done: Callable[[int], None]) -> list[int]:
        """See `facesyn.protocols.Executor`. Raises BackendError for a cluster that is not there or too small."""
        if not shards:
            return []
        ray = self._connect()
        size = min(self._pool_size(ray), len(shards))
        attempts = ray.remote(num_cpus=0)(Attempts).remote(self.attempts)
        # One block per shard, none queued behind another, and nothing but numbers kept in Ray's store.
        results = ray.data.from_items([int(shard) for shard in shards], override_num_blocks=len(shards)).map_batches(
            _Worker,
            fn_constructor_args=(work, attempts, os.getcwd()),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            runtime_env={"env_vars": _ONE_THREAD},
        )
        given_up = []
        with redirect_stdout(sys.stderr):  # Ray tells of dead workers on stdout, which is for data
            for row in results.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                if row["done"]:
                    on_done(int(row["shard"]))
                else:
                    given_up.append(int(row["shard"]))
        return sorted(given_up)

    def _connect(self) -> Any:
        """Ray, connected; the connection serves later runs of this process and ends with it."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # else the last of them come late
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its own remarks on its own doings
        import ray
        import ray.data

        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if not self.address and not os.environ.get("RAY_ADDRESS"):
                room = max((self.workers or 0) * self.num_cpus, os.cpu_count() or 1)
                options |= {"address": "local", "include_dashboard": False, "num_cpus": int(-(-room // 1))}
            else:
                options["address"] = self.address
                _knock(self.address or os.environ["RAY_ADDRESS"])
            on_sigterm = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(**options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "of this machine"
                raise BackendError(f"Cannot reach the Ray cluster {where}: {_first_line(error)}") from error
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own in its place
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        return ray

    def _pool_size(self, ray: Any) -> int:
        """The workers asked for, or as many as fit. Raises BackendError where they do not fit."""
        there = ray.cluster_resources()
        asked = {name: n for name, n in (("CPU", self.num_cpus), ("GPU", self.num_gpus)) if n}
        room = min(int(there.get(name, 0) // number) for name, number in asked.items())
        if room < (self.workers or 1):
            found = ", ".join(f"{there.get(name, 0):g} {name}" for name in asked)
            raise BackendError(
                f"The Ray cluster has {found}, too little for {self.workers or 1} workers "
                f"of {' and '.join(f'{number:g} {name}' for name, number in asked.items())} each.",
                hint="Ask for fewer workers, or for less with --executor-option num_cpus=… or num_gpus=….",
            )
        return self.workers or room


class _Worker:
    """An actor of the pool: a block with one shard in, a row on how it went out."""

    def __init__(self, work: Callable[[int], None], attempts: Any, folder: str):
        # Paths in recipes are relative to where the build was started, on the machines that have that folder.
        with suppress(OSError):
            os.chdir(folder)
        self._work, self._attempts = work, attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        import ray

        (shard,) = (int(number) for number in batch["item"])
        error, done = b"", False
        try:
            if ray.get(self._attempts.begin.remote(shard)):
                self._work(shard)
                done = True
                self._attempts.done.remote(shard)
        except Exception as raised:
            cause = raised.cause if isinstance(raised, ray.exceptions.RayTaskError) else raised
            error = pickle.dumps(portable(cause))
        return {"shard": [shard], "done": [done], "error": [error]}


def _knock(address: str) -> None:
    """Raises BackendError where nobody listens at `host:port`: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise BackendError(f"Cannot reach the Ray cluster {address}: {error.strerror or error}.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
