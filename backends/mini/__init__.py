"""The embedded models: where they are, and the recogniser as a face encoder. Trained on renders only; see README.md."""

from collections.abc import Mapping
from pathlib import Path

from ..recogniser import RecogniserEncoder

PARTS = ("ufg", "atd", "recogniser", "judge", "landmarker", "classifier", "edges", "references")


class MiniBundle:
    """The folders of the embedded models and banks."""

    licence = "Apache-2.0"

    def folders(self) -> Mapping[str, Path]:
        here = Path(__file__).parent
        return {part: here / part for part in PARTS}


class MiniEncoder(RecogniserEncoder):
    """Embeds faces with the embedded recogniser, in facesyn's own crops; pictures from elsewhere need aligning.

    Three sizes of crop were measured to be worth their cost, which is small beside that of making a picture.
    """

    name, zoom = "mini", 0.04

    def __init__(self, device: str = "auto", crop: str = "facesyn"):
        super().__init__("mini", device, crop, zoom=self.zoom)
        kept = ("sha256", "zoom") if crop == "facesyn" else ("sha256", "crop", "zoom")
        self._facts = {"backend": self.name} | {fact: self._facts[fact] for fact in kept if fact in self._facts}


class MiniJudge(MiniEncoder):
    """The second embedded recogniser: another architecture, trained on other people than the first, which gates use.

    A dataset that one recogniser selected looks better to that one than it is; this one had no say in it.
    """

    name, part, zoom = "mini-judge", "judge", 0.0
