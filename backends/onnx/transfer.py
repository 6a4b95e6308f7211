"""ATD on ONNX Runtime: the sampling loop of `facesyn.atd`, over graphs in the folder of an ATD model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesyn.model_folder import default_settings, name_of, read_json
from facesyn.models import resolve

from .providers import choose_provider, why_unavailable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from facesyn.atd.style_encoder import Style


class OnnxTransfer:
    """Source faces into the style of references.

    `model` is a bundle name or a folder that `facesyn export` wrote. `provider` is auto, cpu, cuda or tensorrt. What is
    left out of the settings comes from the model; a `style_scale` of 0 switches the style off; the identity scale holds
    from step `identity_from` on, counted from 0; `mirrored` gives the mean of a face and of one from mirrored pictures.
    """

    @classmethod
    def why_unavailable(cls) -> str | None:
        return why_unavailable()

    def __init__(
        self,
        model: str = "mini",
        provider: str = "auto",
        device: str = "auto",
        steps: int | None = None,
        identity_scale: float | None = None,
        style_scale: float | None = None,
        identity_from: int | None = None,
        mirrored: bool | None = None,
    ):
        from facesyn.atd.transfer import TransferSampler, transfer_settings

        from .runtime import facts_of

        provider = choose_provider(provider, device)
        folder = resolve(model, "atd")
        networks = OnnxNetworks(folder, provider)
        settings = transfer_settings(
            default_settings(folder), steps, identity_scale, style_scale, identity_from, mirrored
        )
        self._sampler = TransferSampler(networks, settings)
        self.size = networks.size
        self._facts = {
            "backend": "onnx",
            "model": name_of(model, folder),
            **self._sampler.facts(),
            **facts_of(networks.unet, provider),
        }

    def transfer(
        self, sources: Sequence["Image.Image"], references: Sequence["Image.Image"], seeds: Sequence[int]
    ) -> list["Image.Image"]:
        """See `facesyn.protocols.AttributeTransfer`."""
        return self._sampler(sources, references, seeds)

    def facts(self) -> Mapping[str, Any]:
        return self._facts


class OnnxNetworks:
    """The graphs of an ATD model, as `facesyn.atd.transfer.Networks`."""

    def __init__(self, folder: Path, provider: str):
        import torch

        from facesyn.export.layout import GRAPHS
        from facesyn.schedulers import load_scheduler

        from .runtime import Session, place_of

        files = GRAPHS["atd"]
        self.device, self.dtype = place_of(provider), torch.float32
        self.unet = Session(folder / files["unet"], provider)
        self._style = Session(folder / files["style"], provider)
        self._encoder = Session(folder / files["encoder"], provider)
        self._decoder = Session(folder / files["decoder"], provider)
        config = read_json(folder / "vae/config.json", "A model folder has a folder for every part.")
        self._scaling = float(config["scaling_factor"])
        self.scheduler = load_scheduler(folder / "scheduler")
        self.size = self._encoder.shape("pictures")[-1]

    def encode(self, pictures: "torch.Tensor") -> "torch.Tensor":
        return self._encoder(pictures)[0] * self._scaling

    def style(self, latents: "torch.Tensor") -> tuple["Style", "Style"]:
        import torch

        from facesyn.atd.style_encoder import Style

        found = dict(zip(self._style.outputs, self._style(latents), strict=True))
        absent = found.pop("absent")
        style = Style(found["tokens"], found.get("vector"), found.get("layout"))
        rest = [None if part is None else torch.zeros_like(part) for part in style[1:]]
        return style, Style(absent, *rest)

    def network(self, joined: "torch.Tensor", t: "torch.Tensor", style: "Style") -> "torch.Tensor":
        times = t.to(self.device, self.dtype).expand(len(joined))
        seen = [style.tokens] if style.vector is None else [style.tokens, style.vector]
        return self.unet(joined, times, *seen)[0]

    def decode(self, latents: "torch.Tensor") -> "torch.Tensor":
        return self._decoder(latents / self._scaling)[0].clamp(-1, 1)
