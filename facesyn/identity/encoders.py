"""Encoders as they are named on the command line, and embeddings of many pictures. Knows no encoder by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facesyn import registry
from facesyn.errors import UsageError
from facesyn.identity.calibration import Calibration, read_calibration
from facesyn.labelled import LabelledFaces
from facesyn.protocols import AttributeClassifier, CalibratedEncoder, FaceEncoder


def open_classifier(spec: str, categories: Mapping[str, Sequence[str]]) -> AttributeClassifier:
    """The classifier `spec` names, as in `clip,model=FOLDER`, asked about a plan's `categories` where it can be."""
    name, options = parse_encoder(spec)
    known = registry.option_names(registry.Role.CLASSIFIER, name)
    usual = {key: list(value) for key, value in categories.items() if known is None or key in known}
    classifier: AttributeClassifier = registry.create(registry.Role.CLASSIFIER, name, usual | options)
    return classifier


def parse_encoder(spec: str) -> tuple[str, dict[str, Any]]:
    """`onnx:w.onnx,colour=bgr` → `("onnx", {"path": "w.onnx", "colour": "bgr"})`. Raises UsageError."""
    head, *pairs = spec.split(",")
    name, colon, path = head.partition(":")
    if not name or (colon and not path):
        raise UsageError(f"{spec!r} names no encoder.", hint="Write mini, or onnx:FILE.onnx,colour=bgr.")
    return name, ({"path": path} if colon else {}) | registry.parse_options(pairs)


def open_encoder(spec: str, defaults: Mapping[str, Any] | None = None) -> FaceEncoder:
    """The encoder `spec` names, with `defaults` for the options that it has and `spec` does not give."""
    name, options = parse_encoder(spec)
    known = registry.option_names(registry.Role.ENCODER, name)
    usual = {key: value for key, value in (defaults or {}).items() if known is None or key in known}
    encoder: FaceEncoder = registry.create(registry.Role.ENCODER, name, usual | options)
    return encoder


def calibration_of(encoder: FaceEncoder, file: Path | None = None) -> Calibration:
    """The calibration in `file`, or the one shipped beside the encoder's weights. Raises UsageError."""
    if file is None:
        if not isinstance(encoder, CalibratedEncoder):
            raise UsageError(
                "The encoder ships no calibration.",
                hint="Run `facesyn calibrate` and name its file, or switch the gates off with --no-gates.",
            )
        file = encoder.calibration_file
    return read_calibration(file, encoder.facts())


def embed_all(
    encoder: FaceEncoder, faces: LabelledFaces, advance: Callable[[int], None] = lambda done: None, batch_size: int = 64
) -> np.ndarray:
    """(n, d) embeddings of all `faces`, in order."""
    parts = []
    for start in range(0, len(faces), batch_size):
        pictures = [faces.open(index) for index in range(start, min(start + batch_size, len(faces)))]
        parts.append(encoder.embed(pictures))
        advance(len(pictures))
    return np.concatenate(parts)
