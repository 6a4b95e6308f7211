"""The embedded attribute network as a classifier. It knows the categories it was trained on, and no others."""

from collections.abc import Sequence

from PIL import Image


class MiniClassifier:
    """Ethnicity, gender and age interval of facesyn's own pictures; `model` is `mini` or a trained network's folder."""

    def __init__(self, model: str = "mini", device: str = "auto"):
        from facesyn.errors import ModelError
        from facesyn.identity.networks import AttributeNet
        from facesyn.models import resolve
        from facesyn.tensors import choose_device

        folder = resolve(model, "classifier")
        self._device = choose_device(device)
        try:
            self._network = AttributeNet.from_pretrained(folder, local_files_only=True).eval().to(self._device)
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{model} is no attribute network: {str(error).splitlines()[0]}") from None

    def classify(self, faces: Sequence[Image.Image]) -> list[dict[str, dict[str, float]]]:
        """See `facesyn.protocols.AttributeClassifier`."""
        import torch

        from facesyn.tensors import to_tensor

        with torch.no_grad():
            scores = self._network.flip_averaged(to_tensor(faces, self._network.config["size"]).to(self._device))
        found: list[dict[str, dict[str, float]]] = [{} for _ in faces]
        for attribute, names in self._network.config["categories"].items():
            for each, shares in zip(found, scores[attribute].softmax(1).tolist(), strict=True):
                each[attribute] = dict(zip(names, shares, strict=True))
        return found
