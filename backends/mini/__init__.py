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
    """Embeds faces with the embedded recogniser, in facesyn's own crops; pictures from elsewhere need aligning."""

    name = "mini"

    def __init__(self, device: str = "auto", crop: str = "facesyn"):
        super().__init__("mini", device, crop)
        self._facts = {"backend": self.name, "sha256": self._facts["sha256"]} | (
            {"crop": crop} if crop != "facesyn" else {}
        )


class MiniJudge(MiniEncoder):
    """The second embedded recogniser: another architecture, trained on other people than the first, which gates use.

    A dataset that one recogniser selected looks better to that one than it is; this one had no say in it.
    """

    name, part = "mini-judge", "judge"
