"""ONNX Runtime sessions that take and return torch tensors. Knows graphs and memory; knows no models.

On a GPU, inputs and outputs are bound where they are, so that nothing travels through the host between networks. On
processors, two threads take half of a batch each rather than half of every operator: they wait for each other once a
call, not hundreds of times, and a row's values do not depend on how many there are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesyn.errors import ModelError
from facesyn.export.layout import PRECISION, SHAPE, shape_of

from .providers import cache_folder, provider_options, session_options, threads

_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(int64)": torch.int64}


class Session:
    """One graph, called by position with tensors whose first axis is the batch; returns its outputs in order.

    Raises ModelError where there is no graph, or one of other weights.
    """

    def __init__(self, file: Path, provider: str = "cpu", index: int = 0):
        if not file.is_file():
            raise ModelError(
                f"There is no ONNX graph {file}.", hint="Make graphs with `facesyn export MODEL -o FOLDER`."
            )
        self._index = index
        self._session = _open(file, provider, index)
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        if self.metadata.get(SHAPE, "") not in ("", shape_of(file.parent)):
            raise ModelError(
                f"The graph {file} was made for weights of another shape.",
                hint="Make it again with `facesyn export MODEL -o FOLDER`.",
            )
        self._inputs, self._outputs = (
            {node.name: (_TYPES[node.type], tuple(node.shape[1:])) for node in nodes}
            for nodes in (self._session.get_inputs(), self._session.get_outputs())
        )
        self._bound = provider != "cpu" and torch.cuda.is_available()
        self._halves = ThreadPoolExecutor(2) if provider == "cpu" and threads() > 1 else None

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one row of an input."""
        return self._inputs[name][1]

    @property
    def outputs(self) -> list[str]:
        return list(self._outputs)

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        given = {
            name: tensor.to(kind).contiguous()
            for (name, (kind, _)), tensor in zip(self._inputs.items(), tensors, strict=True)
        }
        if self._bound:
            return self._call_bound(given)
        arrays = {name: tensor.cpu().numpy() for name, tensor in given.items()}
        rows = len(next(iter(arrays.values())))
        if self._halves is None or rows == 1:
            return [torch.from_numpy(array) for array in self._session.run(None, arrays)]
        middle = rows // 2
        parts = [{name: array[part] for name, array in arrays.items()} for part in (slice(middle), slice(middle, None))]
        first, second = self._halves.map(self._run, parts)
        return [torch.from_numpy(np.concatenate(pair)) for pair in zip(first, second, strict=True)]

    def _run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        return self._session.run(None, dict(arrays))

    def _call_bound(self, given: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """With every tensor in the memory of the GPU: see ONNX Runtime's documentation of I/O binding."""
        kinds = {torch.float32: np.float32, torch.float16: np.float16, torch.int64: np.int64}
        batch = len(next(iter(given.values())))
        place = torch.device("cuda", self._index)
        results = {
            name: torch.empty(batch, *shape, dtype=kind, device=place) for name, (kind, shape) in self._outputs.items()
        }
        binding = self._session.io_binding()
        for bind, tensors in ((binding.bind_input, given), (binding.bind_output, results)):
            for name, tensor in tensors.items():
                bind(name, "cuda", self._index, kinds[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        torch.cuda.current_stream().synchronize()  # what was computed on torch's stream must be there
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return list(results.values())


def place_of(provider: str, index: int = 0) -> torch.device:
    """Where tensors between networks are kept: on the GPU where it computes and torch has it too."""
    return torch.device("cuda", index) if provider != "cpu" and torch.cuda.is_available() else torch.device("cpu")


def facts_of(session: Session, provider: str) -> dict[str, str]:
    """What a row must say of a runtime and its graphs."""
    import diffusers
    import onnxruntime

    return {
        "dtype": session.metadata.get(PRECISION, "fp32"),
        "provider": provider,
        "onnxruntime": onnxruntime.__version__,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
    }


def _open(file: Path, provider: str, index: int) -> Any:
    import onnxruntime

    count = max(1, threads() // 2) if provider == "cpu" else threads()

    def session(providers: Any) -> Any:
        return onnxruntime.InferenceSession(str(file), session_options(count), providers=providers)

    try:
        rows: dict[str, list[int]] = {}
        half = False
        if provider == "tensorrt":  # profiles need the shapes, which only a session can tell
            probe = session(["CPUExecutionProvider"])
            rows = {node.name: node.shape[1:] for node in probe.get_inputs()}
            half = probe.get_modelmeta().custom_metadata_map.get(PRECISION) == "fp16"
            cache_folder().mkdir(parents=True, exist_ok=True)
        return session(provider_options(provider, rows, cache_folder(), half, index))
    except Exception as error:  # its errors share no class but Exception
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ModelError(f"{file} cannot be loaded as ONNX: {first}") from None
