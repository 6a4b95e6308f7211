"""ONNX Runtime's providers: which there are, what they are told, what to install where one is missing.

Loads nothing heavy; knows no models.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facesyn.errors import UsageError
from facesyn.registry import suggest

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_GPU = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
_INSTALL = {
    "cpu": "pip install onnxruntime",
    "cuda": f"{_GPU}; or use --provider cpu.",
    "tensorrt": f"{_GPU} tensorrt; or use --provider cpu.",
}
LARGEST_BATCH = 64
"""Rows that TensorRT plans for; guidance makes two or three of each picture."""


def why_unavailable() -> str | None:
    return None if find_spec("onnxruntime") else "The package onnxruntime is not installed."


def choose_provider(name: str, device: str = "auto", available: Sequence[str] | None = None) -> str:
    """`auto` is CUDA where this onnxruntime has it and a GPU is wanted, else the CPU; TensorRT only when asked for.

    TensorRT builds its engines for minutes, which nobody should meet unasked. Raises UsageError for an unknown name,
    and for a provider that is missing, saying what to install.
    """
    if available is None:
        import onnxruntime

        available = onnxruntime.get_available_providers()
    kind = device.partition(":")[0]
    if name == "auto":
        if kind not in ("auto", "cpu", "cuda"):
            raise UsageError(f"ONNX Runtime does not run on {device!r} here.", hint="Use --device auto, cpu or cuda.")
        name = kind if kind != "auto" else "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if name not in PROVIDERS:
        raise UsageError(
            f"There is no provider called {name!r}.", hint=suggest(name, ["auto", *PROVIDERS], "Providers")
        )
    if PROVIDERS[name] not in available:
        here = [short for short, full in PROVIDERS.items() if full in available]
        raise UsageError(
            f"This onnxruntime has no {PROVIDERS[name]}; it has {', '.join(here) or 'none of ours'}.",
            hint=_INSTALL[name],
        )
    return name


def provider_options(
    provider: str, inputs: Mapping[str, Sequence[int]], cache: Path, half: bool = False, index: int = 0
) -> list[tuple[str, dict[str, str]]]:
    """Providers in order of preference, with their options; those after the first take what it cannot.

    `inputs` are the shapes of one row of each input, without the batch, for TensorRT's profiles; its engines are kept
    in `cache`. `half` lets TensorRT compute in float16.
    """
    cpu: tuple[str, dict[str, str]] = (PROVIDERS["cpu"], {})
    if provider == "cpu":
        return [cpu]
    cuda = (PROVIDERS["cuda"], {"device_id": str(index), "cudnn_conv_algo_search": "HEURISTIC"})
    if provider == "cuda":
        return [cuda, cpu]

    def profile(batch: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, [batch, *shape]))}" for name, shape in inputs.items())

    tensorrt = {
        "device_id": str(index),
        "trt_fp16_enable": str(half),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        "trt_profile_min_shapes": profile(1),
        "trt_profile_opt_shapes": profile(16),
        "trt_profile_max_shapes": profile(LARGEST_BATCH),
    }
    return [(PROVIDERS["tensorrt"], tensorrt), cuda, cpu]


def cache_folder() -> Path:
    """Where TensorRT's engines are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("FACESYN_CACHE") or Path(home) / "facesyn").expanduser() / "tensorrt"


def threads() -> int:
    """How many to compute with: OMP_NUM_THREADS, as torch does, or one per processor core where that is not set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("OMP_NUM_THREADS") or cores)


def session_options(count: int) -> Any:
    """Every operator is computed by `count` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning threads starve torch's
    options.log_severity_level = 3
    return options
