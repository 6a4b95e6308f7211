"""UFG on ONNX Runtime: the sampling loop of `facesyn.ufg`, over graphs beside the weights of an SD 1.5-shaped model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesyn.model_folder import default_settings, name_of, read_json
from facesyn.models import resolve

from .providers import choose_provider, why_unavailable

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from facesyn.records import PromptRow
    from facesyn.ufg import Context


class OnnxGenerator:
    """Prompts and edge maps to unique frontal faces.

    `model` is a bundle name or a folder that `facesyn export` wrote; `controlnet`, a ControlNet's folder with graphs,
    where it is not the model's own. `provider` is auto, cpu, cuda or tensorrt. What is left out of `scheduler`,
    `steps` and both scales comes from the model.
    """

    @classmethod
    def why_unavailable(cls) -> str | None:
        return why_unavailable()

    def __init__(
        self,
        model: str = "mini",
        controlnet: str | None = None,
        provider: str = "auto",
        device: str = "auto",
        scheduler: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        conditioning_scale: float | None = None,
    ):
        from facesyn.ufg import FaceSampler, generation_settings
        from facesyn.ufg.folder import controlnet_folder

        from .runtime import facts_of

        provider = choose_provider(provider, device)
        folder = resolve(model, "ufg")
        control_folder = controlnet_folder(model, controlnet, folder)
        networks = OnnxNetworks(folder, control_folder, provider, scheduler)
        settings = generation_settings(default_settings(folder), steps, guidance_scale, conditioning_scale)
        self._sampler = FaceSampler(networks, settings)
        self.size = networks.size
        self._facts = {
            "backend": "onnx",
            "model": name_of(model, folder),
            "controlnet": name_of(controlnet or model, control_folder),
            **self._sampler.facts(),
            **facts_of(networks.unet, provider),
        }

    def generate(
        self, prompts: Sequence["PromptRow"], edges: Sequence["Image.Image"], seeds: Sequence[int]
    ) -> list["Image.Image"]:
        """See `facesyn.protocols.FaceGenerator`."""
        return self._sampler(prompts, edges, seeds)

    def facts(self) -> Mapping[str, Any]:
        return self._facts


class OnnxNetworks:
    """The graphs of a UFG model, as `facesyn.ufg.Networks`."""

    def __init__(self, folder: Path, control_folder: Path, provider: str, scheduler: str | None):
        import torch
        from transformers import CLIPTokenizer

        from facesyn.export.layout import GRAPHS
        from facesyn.schedulers import load_scheduler, named_scheduler

        from .runtime import Session, place_of

        files, hint = GRAPHS["ufg"], "A model folder has a folder for every part."
        self.device, self.dtype = place_of(provider), torch.float32
        self._text = Session(folder / files["text"], provider)
        self._condition = Session(control_folder / Path(files["condition"]).name, provider)
        self._controlnet = Session(control_folder / Path(files["controlnet"]).name, provider)
        self.unet = Session(folder / files["unet"], provider)
        self._decoder = Session(folder / files["decoder"], provider)
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        self._scaling = float(read_json(folder / "vae/config.json", hint)["scaling_factor"])
        self.scheduler = load_scheduler(folder / "scheduler")
        if scheduler is not None:
            self.scheduler = named_scheduler(scheduler, self.scheduler.config)
        channels, height, width = self.unet.shape("z")
        self.latent = (channels, height, width)
        self.size = self._condition.shape("edges")[-1]

    def text(self, prompt: str) -> "Context":
        from facesyn.ufg import Context

        (length,) = self._text.shape("ids")
        ids = self._tokenizer(
            [prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return Context(self._text(ids.to(self.device))[0])

    def control(self, edges: "torch.Tensor") -> "torch.Tensor":
        return self._condition(edges)[0]

    def predict(
        self, z: "torch.Tensor", t: "torch.Tensor", context: "Context", control: "torch.Tensor", scale: float
    ) -> "torch.Tensor":
        times = t.to(self.device, self.dtype).expand(len(z))
        residuals = self._controlnet(z, times, context.tokens, control)
        if scale != 1:
            residuals = [residual * scale for residual in residuals]
        return self.unet(z, times, context.tokens, *residuals)[0]

    def decode(self, latents: "torch.Tensor") -> "torch.Tensor":
        return self._decoder(latents / self._scaling)[0]
