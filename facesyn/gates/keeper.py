"""Holds what the gates need (detector, landmarker, classifier, thresholds) and examines pictures. Makes none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesyn import registry
from facesyn.errors import UsageError
from facesyn.gates import measures
from facesyn.gates.measures import Verdict
from facesyn.gates.settings import GateSettings
from facesyn.identity.calibration import Calibration
from facesyn.identity.encoders import calibration_of, embed_all, open_classifier
from facesyn.identity.uniqueness import UniquenessIndex
from facesyn.protocols import AttributeClassifier, FaceDetector, FaceEncoder


class Keeper:
    """The gates of one dataset of `identities` people. Raises UsageError where a gate lacks its encoder or calibration.

    Thresholds come from the calibration of `encoder`: uniqueness compares frontal strangers of one cell, the other
    two a frontal face with one in a style; a calibration without such pairs answers with any pictures of strangers.
    """

    def __init__(
        self,
        settings: GateSettings,
        identities: int,
        encoder: FaceEncoder | None,
        categories: Mapping[str, Sequence[str]] | None = None,
    ):
        """`categories`: `ethnicities`, `genders` and `age_intervals` of the plan, which a classifier is asked about."""
        self.settings, self._encoder, self._categories = settings, encoder, categories or {}
        self._detector: FaceDetector | None = None
        self._classifier: AttributeClassifier | None = None
        self._landmarker: Any = None
        self.thresholds: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        if not settings.enabled:
            return
        if settings.unique or settings.identity or settings.leakage:
            if encoder is None:
                raise UsageError(
                    "The gates on uniqueness, identity and leakage need a face encoder.",
                    hint='Name one ([encoder] backend = "mini"), or switch them off.',
                )
            file = Path(settings.calibration) if settings.calibration else None
            self._set_thresholds(calibration_of(encoder, file), identities)

    def _set_thresholds(self, calibration: Calibration, identities: int) -> None:
        kinds = {(row.strangers, row.pictures) for row in calibration.thresholds}
        asked: tuple[tuple[str, float, Any, Any], ...] = (
            ("unique", self.settings.alpha / identities, "cell", "frontal"),
            ("identity", self.settings.identity_fmr, "all", "mixed"),
            ("leakage", self.settings.leakage_fmr, "all", "mixed"),
        )
        for name, fmr, strangers, pictures in asked:
            if not getattr(self.settings, name):
                continue
            pictures = pictures if (strangers, pictures) in kinds else "any"
            strangers = strangers if (strangers, pictures) in kinds else "all"
            kind: dict[str, Any] = {"strangers": strangers, "pictures": pictures}
            self.thresholds[name] = round(calibration.threshold(fmr, **kind), 6)
            self.rates[name] = calibration.measured_fmr(fmr, **kind)

    def facts(self) -> dict[str, Any]:
        """The limits in force, for provenance."""
        limits = {
            name: {"threshold": threshold, "fmr": float(f"{self.rates[name]:.6g}")}
            for name, threshold in self.thresholds.items()
        }
        return {"enabled": self.settings.enabled, **limits}

    def examine_sources(
        self, pictures: Sequence[Image.Image], asked: Sequence[Mapping[str, str]]
    ) -> list[list[Verdict]]:
        """Verdicts on source faces, each for itself; `asked` are attribute → category. Uniqueness is not among them."""
        found = [self._quality(picture) + self._faces(picture, least=1) for picture in pictures]
        if self.settings.enabled and self.settings.frontal:
            for verdicts, (yaw, pitch, _) in zip(found, self._poses(pictures), strict=True):
                verdicts.append(measures.frontal(float(yaw), float(pitch), self.settings.yaw))
        if "source face" in self.settings.classified:
            for verdicts, more in zip(found, self._attributes(pictures, asked), strict=True):
                verdicts += more
        return found

    def unique(self, index: UniquenessIndex, embedding: np.ndarray) -> list[Verdict]:
        """Whether a face is nobody in the index."""
        if "unique" not in self.thresholds:
            return []
        return [measures.unique(index.nearest(embedding[None])[0].similarity, self.thresholds["unique"])]

    def examine_image(
        self,
        picture: Image.Image,
        to_source: float | None,
        to_reference: float | None,
        others: Sequence[np.ndarray],
        asked: Mapping[str, str],
    ) -> list[Verdict]:
        """Verdicts on a transferred image, from its similarities and the thumbnails of its person's other images.

        `asked` are attribute → category, as far as they are known.
        """
        verdicts = self._quality(picture) + self._faces(picture, least=0)
        if "identity" in self.thresholds and to_source is not None:
            verdicts.append(measures.same_identity(to_source, self.thresholds["identity"], self.settings.copy_limit))
        if "leakage" in self.thresholds and to_reference is not None:
            verdicts.append(measures.leakage(to_reference, self.thresholds["leakage"]))
        if self.settings.enabled and self.settings.duplicates:
            verdicts.append(measures.duplicate(picture, others, self.settings.distance))
        if "image" in self.settings.classified and asked:
            (more,) = self._attributes([picture], [asked])
            verdicts += more
        return verdicts

    def known(self) -> tuple[list[str], list[np.ndarray]]:
        """Names and embeddings of the people nobody new may look like: per person, the mean of their pictures."""
        names: list[str] = []
        embeddings: list[np.ndarray] = []
        if "unique" not in self.thresholds or self._encoder is None:
            return names, embeddings
        for folder in map(Path, self.settings.known):
            faces = known_faces(folder)
            rows = embed_all(self._encoder, faces)
            for identity, members in faces.members().items():
                centre = rows[members].mean(0)
                names.append(f"{folder.name}/{identity}")
                embeddings.append(centre / np.linalg.norm(centre))
        return names, embeddings

    def _quality(self, picture: Image.Image) -> list[Verdict]:
        if not (self.settings.enabled and self.settings.quality):
            return []
        return [
            measures.contrast(picture, self.settings.contrast),
            measures.sharpness(picture, self.settings.sharpness),
        ]

    def _faces(self, picture: Image.Image, least: int) -> list[Verdict]:
        if not (self.settings.enabled and self.settings.one_face):
            return []
        if self._detector is None:
            self._detector = registry.create(registry.Role.DETECTOR, self.settings.detector)
        return [measures.face_count(len(self._detector.detect(picture)), least=least)]

    def _attributes(self, pictures: Sequence[Image.Image], asked: Sequence[Mapping[str, str]]) -> list[list[Verdict]]:
        """In colour and in grey: an ethnicity is more than a tone of skin, an age more than the colour of hair."""
        if self._classifier is None:
            self._classifier = open_classifier(self.settings.classifier, self._categories)
        greyed = [picture.convert("L").convert("RGB") for picture in pictures]
        said = self._classifier.classify([*pictures, *greyed])
        return [
            measures.attributes(in_colour, cell) + measures.attributes(in_grey, cell, " in grey")
            for in_colour, in_grey, cell in zip(said[: len(pictures)], said[len(pictures) :], asked, strict=True)
        ]

    def _poses(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        from facesyn.identity.landmarks import load_landmarker, poses

        if self._landmarker is None:
            self._landmarker = load_landmarker(self.settings.landmarker)
        return poses(self._landmarker, pictures)


def known_faces(folder: Path) -> Any:
    """The faces of a folder, of a dataset its sources: they are what uniqueness compares."""
    from facesyn.labelled import read_gallery

    sources = folder / "sources"
    return read_gallery(sources if sources.is_dir() else folder)


def rejected_by(verdicts: Sequence[Verdict]) -> list[str]:
    """The names of the gates that did not let a picture pass."""
    return [verdict.gate for verdict in verdicts if not verdict.passed]


def figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Gate → figure, as rows keep them."""
    return {verdict.gate: verdict.figure for verdict in verdicts}
