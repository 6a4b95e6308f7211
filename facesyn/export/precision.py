"""Graphs in less than float32: half precision for GPUs, 8-bit matrix products for processors. Knows only ONNX."""

import tempfile
from pathlib import Path
from typing import Any

QUANTISED = ("MatMul", "Gemm")
"""Convolutions in 8 bits are slower on processors than in float32, so they stay."""


def half(model: Any) -> Any:
    """The model in float16, but for inputs and outputs, which stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)


def eight_bits(model: Any) -> Any:
    """The model with the weights of its matrix products in int8, and activations quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            file,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            use_external_data_format=True,
        )
        return onnx.load(file)
