"""`facesyn dataset verify`: is a dataset still what was written? Changes nothing, and repairs nothing.

A dataset with a manifest is compared with it: the hash of every file, then every sample through the format's own
reader. One made elsewhere has none; there every picture is decoded, and rows and files must match. Run folders of
`facesyn dataset build` are checked by the markers of their shards, see `facesyn.formats.builds`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from facesyn.errors import DatasetError, FacesynError, UsageError
from facesyn.formats.findings import Findings, picture_problem
from facesyn.formats.imagefolder import ImageFolderReader
from facesyn.formats.manifest import MANIFEST, SUMS, Content, Manifest, file_hash, files_of, read_manifest, read_sums
from facesyn.formats.registry import FORMATS, detect
from facesyn.formats.samples import Reader, Sample, check_label
from facesyn.imaging import SUFFIXES
from facesyn.out import out

_DATA = SUFFIXES | {".tar", ".parquet", ".rec", ".h5"}


def verify(folder: Path) -> Findings:
    """Check a dataset in any format, or a run folder. Raises UsageError where `folder` is neither."""
    if (folder / "recipe.toml").is_file() and (folder / "plan.jsonl").is_file():
        from facesyn.formats.builds import verify_build

        return verify_build(folder)
    if (folder / MANIFEST).is_file() or (folder / SUMS).is_file():
        return _verify_by_manifest(folder)
    found = Findings(detect(folder).name, hashes=False)
    _verify_samples(folder, found, None)
    return found


def _verify_by_manifest(folder: Path) -> Findings:
    found = Findings("unknown")
    manifest = None
    try:
        manifest = read_manifest(folder)
        found.format = manifest.format
    except FacesynError as error:
        found.add(MANIFEST, str(error))
    _verify_hashes(folder, found)
    try:
        format = FORMATS[manifest.format] if manifest and manifest.format in FORMATS else detect(folder)
    except UsageError as error:
        found.add(".", str(error))
        return found
    found.format = format.name
    _verify_samples(folder, found, manifest)
    return found


def _verify_hashes(folder: Path, found: Findings) -> None:
    listed: set[bytes] = set()
    try:
        for name, expected in read_sums(folder):
            listed.add(_short(name))
            found.files += 1
            try:
                if file_hash(folder / name) != expected:
                    found.add(name, "is not what was written: its hash differs")
            except FileNotFoundError:
                found.add(name, "is missing")
            except OSError as error:
                found.add(name, f"cannot be read: {error.strerror}")
    except OSError as error:
        found.add(SUMS, f"cannot be read: {error.strerror}")
        return
    except FacesynError as error:
        found.add(SUMS, str(error))
    for name in files_of(folder):
        if _short(name) not in listed and Path(name).suffix.lower() in _DATA:
            found.add(name, f"is not listed in {SUMS}")


def _short(name: str) -> bytes:
    """Enough of a hash to tell names apart: a set of these is all that grows with the files."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _verify_samples(folder: Path, found: Findings, manifest: Manifest | None) -> None:
    """Every label and picture, and the counts, through the reader; with a manifest also the digest of all."""
    content = Content()
    labels: set[int] = set()
    names: set[bytes] = set()
    try:
        reader = detect(folder).open(folder) if manifest is None else FORMATS[found.format].open(folder)
        for sample in _samples(reader, found):
            found.images += 1
            labels.add(sample.label)
            content.add(sample)
            if (short := _short(sample.file_name)) in names:
                found.add(sample.file_name, "is there twice")
            names.add(short)
            try:
                check_label(sample, reader.classes, found.format)
            except FacesynError as error:
                found.add(sample.file_name, str(error))
            if manifest is None:
                _check_picture(sample, found)
    except FacesynError as error:
        found.add(".", str(error))
    found.identities = len(labels)
    if manifest is None:
        if found.format == "imagefolder":
            _unlisted(folder, names, found)
        return
    for kind in ("images", "identities"):
        said, counted = getattr(manifest, kind), getattr(found, kind)
        if said != counted:
            found.add(".", f"It holds {counted} {kind}; its manifest says {said}.")
    if not found.bad and content.manifest(found.format) != manifest:
        found.add(MANIFEST, "says another digest than its rows, labels and pictures have")


def _samples(reader: Reader, found: Findings) -> Iterator[Sample]:
    with out.progress("verify", len(reader)) as advance:
        if not isinstance(reader, ImageFolderReader):
            for sample in reader:
                yield sample
                advance()
            return
        for row in reader.rows():  # one missing picture does not hide the next
            try:
                yield reader.sample(row)
            except DatasetError as error:
                found.add(row["file_name"], str(error))
            advance()


def _unlisted(folder: Path, names: set[bytes], found: Findings) -> None:
    for name in files_of(folder):
        if _short(name) not in names and Path(name).suffix.lower() in SUFFIXES:
            found.add(name, "has no row")


def _check_picture(sample: Sample, found: Findings) -> None:
    if problem := picture_problem(sample.data):
        found.add(sample.file_name, problem)
