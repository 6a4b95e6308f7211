"""What checks of datasets have in common: a list of bad files, and whether a picture is whole. Reads no format."""

import io
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image


@dataclass
class Findings:
    """What a check found: `bad` files, each with what is wrong with it; `hashes` whether there were any to compare.

    `.` stands for the dataset as a whole.
    """

    format: str
    images: int = 0
    identities: int = 0
    files: int = 0
    hashes: bool = True
    bad: dict[str, str] = field(default_factory=dict)

    def add(self, file: str, problem: str) -> None:
        """Note what is wrong. Of a file the first thing is enough: a missing one cannot be decoded either."""
        if file not in self.bad:
            self.bad[file] = problem
        elif file == ".":
            self.bad[file] += f" {problem}"

    def as_dict(self) -> dict[str, Any]:
        bad = [{"file": file, "problem": problem} for file, problem in self.bad.items()]
        return asdict(self) | {"bad": bad}


def picture_problem(data: bytes) -> str | None:
    """What keeps an encoded picture from being decoded, or its checksums from holding; None where nothing does."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.verify()  # checksums, of formats that have them
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # Pillow raises anything, depending on where the damage is
        return f"cannot be decoded: {error}"
    return None
