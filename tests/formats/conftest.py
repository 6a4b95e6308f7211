"""A small dataset with everything that a format could lose."""

import hashlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

FORMATS = ("imagefolder", "webdataset", "parquet", "recordio", "hdf5")
MAGIC = bytes.fromhex("0a23d7ce")
"""RecordIO's, as it stands in the file."""


def encoded(seed: int, kind: str = "PNG", size: int = 24) -> bytes:
    """An encoded picture of noise."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (size, size), random.Random(seed).randbytes(3 * size * size)).save(buffer, kind)
    return buffer.getvalue()


def write_people(folder: Path, people: int = 7, images: int = 4) -> list[dict[str, Any]]:
    """An ImageFolder without a manifest; returns its rows."""
    rows: list[dict[str, Any]] = []
    for person in range(people):
        for number in range(images):
            seed = person * images + number
            kind, suffix = (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"))[seed % 3 if seed % 5 == 0 else 0]
            # names out of order, so that an order can be lost
            row: dict[str, Any] = {"file_name": f"p{people - person:02d}/{number:03d}.v1.{suffix}"}
            row |= {"identity": f"p{people - person:02d}", "hair": "größer, „rot“ \t\n", "seed": 2**63 - 1 - seed}
            row |= {"yaw": 0.1 * seed, "gates": {"quality": 1 / (seed + 1)}, "landmarks": [[1.5, 2], [3, 4.25]]}
            row |= {"empty": None, "mixed": seed if seed % 2 else "odd"}
            row |= {"attempt": seed} if seed % 4 else {"style": {"light": "left"}}
            path = folder / row["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            # trailing bytes survive only if nobody encodes again
            path.write_bytes(encoded(seed, kind) + MAGIC * (seed % 3) + bytes(seed % 4) + MAGIC + b"end")
            rows.append(row)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return rows


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """28 pictures of 7 people, PNG, JPEG and WebP."""
    folder = tmp_path / "people"
    write_people(folder)
    return folder


@pytest.fixture
def converted(facesyn: Callable[..., Any], people: Path, tmp_path: Path) -> Callable[..., Path]:
    """`people` in another format."""

    def into(to: str, *arguments: object, name: str | None = None, source: Path | None = None) -> Path:
        target = tmp_path / (name or to)
        result = facesyn("dataset", "convert", source or people, target, "--to", to, *arguments)
        assert result.exit_code == 0, result.stderr
        return target

    return into
