"""The default of generation and transfer: the fastest runtime installed for what is asked. Makes no picture itself.

ONNX Runtime where it is installed, the model has graphs and a processor computes; PyTorch everywhere else, and for
whatever only it can do: half precision, compilation. Nothing is exported on the way. A picture's facts name the
backend that made it, never this one.
"""

from importlib.util import find_spec
from typing import Any


class AutoGenerator:
    """See `OnnxGenerator` and `UFGGenerator`, one of which this becomes; `provider` is the former's option."""

    def __new__(
        cls,
        model: str = "mini",
        controlnet: str | None = None,
        provider: str | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        scheduler: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        conditioning_scale: float | None = None,
        compile: bool = False,
    ) -> Any:
        common: dict[str, Any] = {
            "model": model,
            "controlnet": controlnet,
            "device": device,
            "scheduler": scheduler,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "conditioning_scale": conditioning_scale,
        }
        if provider is not None or (not compile and _onnx_is_best(model, "ufg", device, dtype, controlnet)):
            from ..onnx import OnnxGenerator

            return OnnxGenerator(**common, provider=provider or "cpu")
        from ..diffusers import UFGGenerator

        return UFGGenerator(**common, dtype=dtype, compile=compile)


class AutoTransfer:
    """See `OnnxTransfer` and `ATDTransfer`, one of which this becomes; `provider` is the former's option."""

    def __new__(
        cls,
        model: str = "mini",
        provider: str | None = None,
        device: str = "auto",
        dtype: str = "fp32",
        steps: int | None = None,
        identity_scale: float | None = None,
        style_scale: float | None = None,
        identity_from: int | None = None,
        mirrored: bool | None = None,
        compile: bool = False,
    ) -> Any:
        common: dict[str, Any] = {
            "model": model,
            "device": device,
            "steps": steps,
            "identity_scale": identity_scale,
            "style_scale": style_scale,
            "identity_from": identity_from,
            "mirrored": mirrored,
        }
        if provider is not None or (not compile and _onnx_is_best(model, "atd", device, dtype)):
            from ..onnx import OnnxTransfer

            return OnnxTransfer(**common, provider=provider or "cpu")
        from ..diffusers import ATDTransfer

        return ATDTransfer(**common, dtype=dtype, compile=compile)


def _onnx_is_best(model: str, part: str, device: str, dtype: str, controlnet: str | None = None) -> bool:
    from facesyn.export.layout import has_graphs
    from facesyn.models import resolve
    from facesyn.tensors import choose_device

    if dtype != "fp32" or controlnet is not None or find_spec("onnxruntime") is None:
        return False
    return choose_device(device).type == "cpu" and has_graphs(resolve(model, part), part)
