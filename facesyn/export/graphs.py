"""PyTorch networks to ONNX graphs that hold no weights but say where in a safetensors file they are.

ONNX lets a tensor live in another file, at an offset; a safetensors file is plain tensors behind a header. So a graph
of a few hundred kilobytes beside the weights is a whole model to any ONNX tool, in whatever precision the weights are
stored: what the graph wants otherwise (float32, transposed) are nodes that a runtime folds away when it loads.
"""

import json
import logging
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facesyn.errors import ModelError
from facesyn.export.layout import SHAPE, shape_of, weights_file
from facesyn.export.networks import Network

OPSET = 18
BATCH = "batch"
"""Name of the first axis of every input and output."""


@dataclass(frozen=True)
class Use:
    """How a tensor of a graph comes from a weight."""

    key: str
    """Its name in the safetensors file."""
    transposed: bool
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Traced:
    """An ONNX model, and which of its tensors are which weights; those hold no meaningful values."""

    model: Any
    uses: Mapping[str, Use]


def trace(network: Network, folder: Path) -> Traced:
    """The graph of a network whose weights are in `folder`.

    It is traced on random weights, no two of which are alike, so that tensors the exporter renames, reshapes or
    transposes still tell whose they are.
    """
    import onnx

    state = network.weights.state_dict()
    keys = _keys_in_file(list(state), weights_file(folder))
    kept = {name: tensor.clone() for name, tensor in state.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in state.values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01)
        known = {_content(tensor.numpy()): Use(keys[name], False, ()) for name, tensor in state.items()}
        for name, tensor in state.items():
            if tensor.ndim == 2:
                known.setdefault(_content(tensor.numpy().T), Use(keys[name], True, ()))
        try:
            model = onnx.ModelProto.FromString(_exported(network))
        finally:
            for name, tensor in state.items():
                tensor.copy_(kept[name])
    uses = {}
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and (use := known.get(_content(values))):
            uses[tensor.name] = Use(use.key, use.transposed, tuple(values.shape))
    _forget_origins(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return Traced(model, uses)


def linked(traced: Traced, folder: Path) -> Any:
    """An ONNX model that takes its weights from the safetensors file in `folder`, beside which it must be saved."""
    import onnx

    file = weights_file(folder)
    header, start = _header(file)
    types = {"F32": onnx.TensorProto.FLOAT, "F16": onnx.TensorProto.FLOAT16, "BF16": onnx.TensorProto.BFLOAT16}
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    graph = model.graph
    weights: dict[str, Any] = {}
    nodes = []
    for name, use in traced.uses.items():
        said = header[use.key]
        if use.key not in weights:
            begin, end = said["data_offsets"]
            tensor = onnx.TensorProto(name=use.key, data_type=types[said["dtype"]], dims=said["shape"])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", file.name), ("offset", start + begin), ("length", end - begin)):
                tensor.external_data.add(key=key, value=str(value))
            weights[use.key] = tensor
        steps: list[tuple[str, dict[str, Any], list[str]]] = []
        if said["dtype"] != "F32":
            steps.append(("Cast", {"to": onnx.TensorProto.FLOAT}, []))
        if use.transposed:
            steps.append(("Transpose", {"perm": [1, 0]}, []))
        elif tuple(said["shape"]) != use.shape:
            shape = f"{name}/shape"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(use.shape, np.int64), shape))
            steps.append(("Reshape", {}, [shape]))
        value = use.key
        for number, (kind, attributes, more) in enumerate(steps):
            result = f"{name}/{number}"
            nodes.append(onnx.helper.make_node(kind, [value, *more], [result], **attributes))
            value = result
        for node in graph.node:
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = value
    values = [tensor for tensor in graph.initializer if tensor.name not in traced.uses]
    del graph.initializer[:]
    graph.initializer.extend([*values, *weights.values()])
    before = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *before])
    model.metadata_props.add(key=SHAPE, value=shape_of(folder))
    return model


def filled(traced: Traced, folder: Path) -> Any:
    """An ONNX model with its weights inside, in float32."""
    import onnx
    from safetensors.torch import load_file

    weights = load_file(weights_file(folder))
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    for tensor in model.graph.initializer:
        if use := traced.uses.get(tensor.name):
            values = weights[use.key].float().numpy()
            values = np.ascontiguousarray(values.T if use.transposed else values.reshape(use.shape))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def _exported(network: Network) -> bytes:
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in network.inputs)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about itself and torch
            program = torch.onnx.export(
                network.module,
                tuple(network.inputs.values()),
                input_names=list(network.inputs),
                output_names=network.outputs,
                dynamic_shapes=(axes,),  # of the one *tensors of the module
                opset_version=OPSET,
                optimize=not network.has_batch_norm,  # it would fold them into other weights; runtimes do so as well
                dynamo=True,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    found: bytes = program.model_proto.SerializeToString()
    return found


def _content(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values).tobytes()


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors begin."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length)), 8 + length


def _keys_in_file(names: list[str], file: Path) -> dict[str, str]:
    """Parameter → its key in the file, where a library may have put a prefix before it."""
    if not file.is_file():
        raise ModelError(f"{file.parent} holds no one file of safetensors weights.")
    keys = [key for key in _header(file)[0] if key != "__metadata__"]
    found = {}
    for name in names:
        fitting = [key for key in keys if key == name] or [key for key in keys if key.endswith(f".{name}")]
        if len(fitting) != 1:
            raise ModelError(f"{file} holds no weights for {name}.")
        found[name] = fitting[0]
    return found


def _forget_origins(model: Any) -> None:
    """Drop what the exporter notes of source lines: it is large, and differs from machine to machine."""
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:], model.metadata_props[:]
    graph.doc_string = model.doc_string = ""
