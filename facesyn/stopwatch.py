"""How much of a stretch of time was spent in networks. Watches from outside: what is timed knows nothing of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any


@dataclass
class Stopwatch:
    """Seconds in networks so far, counted once where one calls another or several compute at once."""

    seconds: float = 0.0
    depth: int = 0
    since: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        with self.lock:
            if self.depth == 0:
                self.since = time.perf_counter()
            self.depth += 1

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - self.since

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            self.enter()
            try:
                return function(*arguments, **options)
            finally:
                self.leave()

        return run


@contextmanager
def watching(*methods: tuple[type, str]) -> Iterator[Stopwatch]:
    """Times every torch module, every ONNX Runtime session, and `methods` of classes."""
    import onnxruntime
    from torch.nn.modules import module

    watch = Stopwatch()
    session = onnxruntime.InferenceSession
    targets = [(session, "run"), (session, "run_with_iobinding"), *methods]
    before = [(kind, name, getattr(kind, name)) for kind, name in targets]
    hooks = [
        module.register_module_forward_pre_hook(lambda *_: watch.enter()),
        module.register_module_forward_hook(lambda *_: watch.leave(), always_call=True),
    ]
    for kind, name, method in before:
        setattr(kind, name, watch.timed(method))
    try:
        yield watch
    finally:
        for kind, name, method in before:
            setattr(kind, name, method)
        for hook in hooks:
            hook.remove()
