"""Face encoder from any ArcFace-style ONNX file: faces in, embeddings out. Loads no other kind of file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn.errors import ModelError, UsageError
from facesyn.export.layout import weights_file

from .providers import PROVIDERS, choose_provider, session_options, threads, why_unavailable

COLOURS = ("rgb", "bgr")
BATCH = 64


class OnnxEncoder:
    """Embeds faces with the ONNX model at `path`: input (b, 3, h, w), output (b, d).

    Pixels of 0 to 255 become (x − `mean`) / `std` in the order of `colour`; ArcFace's are 127.5 and 127.5, in RGB.
    AdaFace's weights want `bgr`. `crop`: see `facesyn.identity.alignment.frame`. With `flip` an embedding is the sum
    over a picture and its mirror image. `device` is `auto`, `cpu` or `cuda`.
    """

    @classmethod
    def why_unavailable(cls) -> str | None:
        return why_unavailable()

    def __init__(
        self,
        path: str,
        colour: str = "rgb",
        mean: float = 127.5,
        std: float = 127.5,
        flip: bool = True,
        crop: str = "facesyn",
        device: str = "auto",
    ):
        from ..recogniser import check_crop

        check_crop(crop)
        if colour not in COLOURS:
            raise UsageError(f"There is no colour order {colour!r}.", hint=f"Use one of {', '.join(COLOURS)}.")
        if not std > 0:
            raise UsageError(f"The standard deviation of pixels must be over 0, not {std}.")
        file = Path(path).expanduser()
        if not file.is_file():
            raise ModelError(f"There is no ONNX file {path}.")
        self._session = _open(file, device)
        self._input, self._size = _input_of(self._session, path)
        self._colour, self._mean, self._std, self._flip, self._crop = colour, mean, std, flip, crop
        self._facts = {
            "backend": "onnx",
            "sha256": _digest(file),
            **{"colour": colour, "mean": mean, "std": std, "flip": flip, "crop": crop},
        }
        self.calibration_file = Path(f"{file}.calibration.json")

    def embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        """See `facesyn.protocols.FaceEncoder`."""
        parts = [self._embed(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)]
        return np.concatenate(parts)

    def _embed(self, faces: Sequence[Image.Image]) -> np.ndarray:
        from facesyn.identity.alignment import frame
        from facesyn.tensors import to_tensor

        # 148 pixels for 112: the inner 3/4 is then what the model takes, and nothing is resized twice
        side = self._size + 2 * (self._size // 6) if self._crop == "facesyn" else self._size
        crops = (frame(to_tensor(faces, side), self._crop, self._size).numpy() + 1) * 127.5
        if self._colour == "bgr":
            crops = crops[:, ::-1]
        pixels = np.ascontiguousarray((crops - self._mean) / self._std, dtype=np.float32)
        embeddings = self._run(pixels)
        if self._flip:
            embeddings = embeddings + self._run(np.ascontiguousarray(pixels[..., ::-1]))
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), dtype=np.float32)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run(None, {self._input: pixels})[0])

    def facts(self) -> Mapping[str, Any]:
        return self._facts


def _digest(file: Path) -> str:
    """SHA-256 (hex) over the graph, and over the weights beside it where it is one of `facesyn export`."""
    digest = hashlib.sha256(file.read_bytes())
    weights = weights_file(file.parent)
    if weights.is_file():
        digest.update(weights.read_bytes())
    return digest.hexdigest()


def _open(file: Path, device: str) -> Any:
    import onnxruntime

    provider = choose_provider("auto", device)
    providers = [PROVIDERS[name] for name in dict.fromkeys((provider, "cpu"))]
    try:
        return onnxruntime.InferenceSession(str(file), session_options(threads()), providers=providers)
    except Exception as error:  # its errors share no class but Exception
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise ModelError(f"{file} cannot be loaded as ONNX: {first}") from None


def _input_of(session: Any, path: str) -> tuple[str, int]:
    """Name and side of the one input, a batch of square RGB pictures."""
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or not isinstance(shape[2], int) or shape[2] != shape[3]:
        raise ModelError(f"{path} does not take one batch of square colour pictures: its input is {shape}.")
    return str(inputs[0].name), shape[2]
