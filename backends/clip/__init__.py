"""Attribute classifier: CLIP asked in words (Radford et al. 2021), by any CLIP folder or hub id in safetensors."""

from collections.abc import Sequence

from PIL import Image

from facesyn.demographics import DEFAULT_AGE_INTERVALS, DEFAULT_ETHNICITIES, DEFAULT_GENDERS, AgeInterval
from facesyn.errors import ModelError


class ClipClassifier:
    """Judges ethnicity, gender and age interval by which sentence a picture is nearest to.

    The categories are the plan's words, each put into a sentence; an age interval is asked as its middle. CLIP
    learned from captions of the web and their habits: its answers say how a picture looks to it, not who anyone is.
    """

    SENTENCES = {
        "ethnicity": "a photo of the face of a {} person",
        "gender": "a photo of the face of a {} person",
        "age_interval": "a photo of the face of a {} year old person",
    }

    def __init__(
        self,
        model: str = "openai/clip-vit-base-patch32",
        ethnicities: Sequence[str] = DEFAULT_ETHNICITIES,
        genders: Sequence[str] = DEFAULT_GENDERS,
        age_intervals: Sequence[str] = DEFAULT_AGE_INTERVALS,
        device: str = "auto",
    ):
        import torch
        from transformers import AutoTokenizer, CLIPModel

        from facesyn.models import resolve
        from facesyn.tensors import choose_device

        folder = resolve(model, "clip")
        self._device = choose_device(device)
        try:
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{model} is no CLIP model in safetensors: {str(error).splitlines()[0]}") from None
        self._model.to(self._device)
        words = {
            "ethnicity": {name: name for name in ethnicities},
            "gender": {name: name for name in genders},
            "age_interval": {name: _middle(name) for name in age_intervals},
        }
        self._categories = {attribute: list(names) for attribute, names in words.items()}
        sentences = [self.SENTENCES[key].format(word) for key, names in words.items() for word in names.values()]
        with torch.no_grad():
            asked = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt").to(self._device)
            features = self._model.text_projection(self._model.text_model(**asked).pooler_output)
            self._sentences = torch.nn.functional.normalize(features)

    def classify(self, faces: Sequence[Image.Image]) -> list[dict[str, dict[str, float]]]:
        """See `facesyn.protocols.AttributeClassifier`."""
        import torch

        from facesyn.tensors import to_tensor

        pixels = (to_tensor(faces, self._model.config.vision_config.image_size) + 1) / 2
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
        with torch.no_grad():
            seen = self._model.vision_model(pixel_values=((pixels - mean) / std).to(self._device)).pooler_output
            features = torch.nn.functional.normalize(self._model.visual_projection(seen))
            scores = (self._model.logit_scale.exp() * features @ self._sentences.T).float().cpu()
        found: list[dict[str, dict[str, float]]] = [{} for _ in faces]
        start = 0
        for attribute, names in self._categories.items():
            shares = scores[:, start : start + len(names)].softmax(1).tolist()
            start += len(names)
            for each, row in zip(found, shares, strict=True):
                each[attribute] = dict(zip(names, row, strict=True))
        return found


def _middle(interval: str) -> str:
    ages = AgeInterval.parse(interval)
    return str((ages.low + ages.high) // 2)
