"""Verification benchmarks: pairs of faces, same person or not, in insightface's `.bin` files or as a list of files.

The `.bin` format is a pickle of (encoded images, same-or-not flags), pair i being images 2i and 2i + 1. Nothing but
plain values is unpickled.
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn.errors import ImageError, UsageError
from facesyn.imaging import FORMATS, load_image
from facesyn.protocols import FaceEncoder
from facesyn.records import write_bytes

PIXEL_LIMIT = 4_000_000
SIZE_LIMIT = 2_000_000_000
"""Bytes of a benchmark; the largest in use are under a tenth of that."""


@dataclass(frozen=True)
class Benchmark:
    """`same[i]` says whether pictures 2i and 2i + 1 show one person; `open(j)` decodes picture j."""

    name: str
    same: np.ndarray
    open: Callable[[int], Image.Image] = field(repr=False)

    @property
    def pictures(self) -> int:
        return 2 * len(self.same)


def read_benchmark(path: Path, folder: Path | None = None) -> Benchmark:
    """A `.bin` file, or a text file with a pair of `folder` in each line: FILE FILE 1|0.

    Raises UsageError for what is neither, and for a `.bin` that holds anything but lists, bytes and flags.
    """
    if not path.is_file():
        raise UsageError(f"There is no benchmark {path}.")
    return _read_bin(path) if path.suffix == ".bin" else _read_pairs(path, folder or path.parent)


def write_bin(path: Path, pictures: list[bytes], same: list[bool]) -> None:
    """Write encoded pictures and flags as an insightface `.bin`."""
    if len(pictures) != 2 * len(same):
        raise UsageError(f"{len(same)} pairs need {2 * len(same)} pictures, not {len(pictures)}.")
    write_bytes(path, pickle.dumps((pictures, same), protocol=4))


class _PlainUnpickler(pickle.Unpickler):
    """Knows no class but what numpy wraps bytes and flags in: a pickle that asks for anything else is refused."""

    ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if module == "_codecs":
            return _latin1
        return super().find_class(module, name)


def _latin1(text: str, encoding: str) -> bytes:
    """What protocol 2 writes bytes as; no other codec is looked up."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def _read_bin(path: Path) -> Benchmark:
    if path.stat().st_size > SIZE_LIMIT:
        raise UsageError(f"{path} is larger than {SIZE_LIMIT / 1e9:.0f} GB: no benchmark.")
    try:
        with path.open("rb") as file:
            found = _PlainUnpickler(file, encoding="bytes").load()
        bins, flags = found
        pictures = [
            bytes(np.asarray(each, dtype=np.uint8)) if isinstance(each, np.ndarray) else bytes(each) for each in bins
        ]
        same = np.array([bool(flag) for flag in flags])
    except Exception as error:  # an unpickler raises whatever a broken file leads it to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is no verification benchmark: {reason}.") from None
    if len(pictures) != 2 * len(same) or not len(same):
        raise UsageError(f"{path} holds {len(pictures)} pictures for {len(same)} pairs.")
    return Benchmark(path.stem, same, lambda index: _decode(pictures[index], f"picture {index} of {path}"))


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise ImageError(f"{name} has {image.width} × {image.height} pixels; the limit is {PIXEL_LIMIT:,}.")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        raise ImageError(f"{name} cannot be decoded.") from None


def _read_pairs(path: Path, folder: Path) -> Benchmark:
    files: list[Path] = []
    same = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is neither a .bin file nor a list of pairs.") from None
    for number, line in enumerate(lines, 1):
        words = line.replace("\t", " ").replace(",", " ").split()
        if not words:
            continue
        if len(words) != 3 or words[2] not in ("0", "1"):
            raise UsageError(f"{path}, line {number}: not FILE FILE 1 or FILE FILE 0.")
        for word in words[:2]:
            if Path(word).is_absolute() or ".." in Path(word).parts:
                raise UsageError(f"{path}, line {number}: {word} leaves its folder.")
            files.append(folder / word)
        same.append(words[2] == "1")
    if not same:
        raise UsageError(f"{path} lists no pair.")
    return Benchmark(path.stem, np.array(same), lambda index: load_image(files[index]))


def embed_benchmark(
    encoder: FaceEncoder, benchmark: Benchmark, advance: Callable[[int], None] = lambda done: None, batch_size: int = 64
) -> np.ndarray:
    """(2n, d) embeddings of the pictures, in order; flipping and normalising is the encoder's."""
    parts = []
    for start in range(0, benchmark.pictures, batch_size):
        end = min(start + batch_size, benchmark.pictures)
        parts.append(encoder.embed([benchmark.open(index) for index in range(start, end)]))
        advance(end - start)
    return np.concatenate(parts)


@dataclass(frozen=True)
class Verification:
    """`accuracy` and `accuracy_std` over ten folds, `tar` at each FAR, `roc` as (FAR, TAR) points."""

    pairs: int
    accuracy: float
    accuracy_std: float
    threshold: float
    eer: float
    tar: dict[str, float]
    roc: tuple[np.ndarray, np.ndarray]


def verify(
    embeddings: np.ndarray, same: np.ndarray, folds: int = 10, fars: tuple[float, ...] = (1e-3, 1e-4)
) -> Verification:
    """Insightface's procedure: squared distances, thresholds 0 to 4 by 0.01, the best of nine folds used on the tenth.

    `embeddings`: (2n, d) of unit length, `same`: (n,) bool. Folds are consecutive, as sklearn's unshuffled KFold cuts
    them. TAR at a FAR is that of the lowest distance threshold that lets no more impostors pass than the FAR allows;
    a FAR that the impostor pairs cannot resolve is left out.
    """
    distance = np.square(embeddings[0::2] - embeddings[1::2]).sum(1)
    thresholds = np.arange(0, 4, 0.01)
    correct = (distance[None, :] < thresholds[:, None]) == same[None, :]
    parts = np.array_split(np.arange(len(same)), min(folds, len(same)))
    accuracies, best = [], []
    for part in parts:
        rest = np.ones(len(same), dtype=bool)
        rest[part] = False
        chosen = int(correct[:, rest].mean(1).argmax()) if rest.any() else int(correct.mean(1).argmax())
        best.append(thresholds[chosen])
        accuracies.append(correct[chosen, part].mean())
    far, tar = roc_curve(-distance[same], -distance[~same])
    impostors = int((~same).sum())
    return Verification(
        pairs=len(same),
        accuracy=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies)),
        threshold=float(np.mean(best)),
        eer=equal_error_rate(far, tar),
        tar={f"{value:g}": float(tar[far <= value].max()) for value in fars if impostors * value >= 1},
        roc=(far, tar),
    )


def roc_curve(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FAR and TAR (share of scores at or above a threshold) at every impostor score and above all; both rise."""
    levels = np.concatenate([[np.inf], np.unique(impostor)[::-1]])
    far = 1 - np.searchsorted(np.sort(impostor), levels, side="left") / max(len(impostor), 1)
    tar = 1 - np.searchsorted(np.sort(genuine), levels, side="left") / max(len(genuine), 1)
    # just above an impostor's score, genuine pairs pass that he does not
    tar = np.maximum(tar, np.concatenate([_above(genuine, levels[1:]), [1.0]]))
    return far, tar


def _above(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(np.sort(scores), levels, side="right") / max(len(scores), 1)


def equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """Where FAR and 1 − TAR meet: the mean of both at their nearest point."""
    nearest = int(np.abs(far - (1 - tar)).argmin())
    return float((far[nearest] + 1 - tar[nearest]) / 2)


def plot_roc(curves: dict[str, tuple[np.ndarray, np.ndarray]], size: int = 480) -> Image.Image:
    """TAR against FAR, the latter in decades from 1e-4 to 1; one line per name."""
    from PIL import ImageDraw, ImageFont

    margin, colours = 48, ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
    image = Image.new("RGB", (size + 2 * margin, size + 2 * margin), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=13)

    def point(far: float, tar: float) -> tuple[float, float]:
        return margin + size * (np.log10(max(far, 1e-4)) + 4) / 4, margin + size * (1 - tar)

    for decade in range(5):
        x = margin + size * decade / 4
        draw.line((x, margin, x, margin + size), fill="#dddddd")
        draw.text(
            (x, margin + size + 6), f"1e-{4 - decade}" if decade < 4 else "1", fill="black", font=font, anchor="ma"
        )
        y = margin + size * decade / 4
        draw.line((margin, y, margin + size, y), fill="#dddddd")
        draw.text((margin - 6, y), f"{1 - decade / 4:.2f}", fill="black", font=font, anchor="rm")
    draw.text((margin + size / 2, margin + size + 24), "false accept rate", fill="black", font=font, anchor="ma")
    for number, (name, (far, tar)) in enumerate(curves.items()):
        colour = colours[number % len(colours)]
        draw.line([point(x, y) for x, y in zip(far, tar, strict=True)], fill=colour, width=2)
        draw.text((margin + 8, margin + 8 + 18 * number), name, fill=colour, font=font)
    return image
