"""Face generation, attribute transfer and face encoding with ONNX Runtime, on graphs that `facesyn export` made."""

from .encoder import OnnxEncoder
from .generation import OnnxGenerator
from .transfer import OnnxTransfer

__all__ = ["OnnxEncoder", "OnnxGenerator", "OnnxTransfer"]
