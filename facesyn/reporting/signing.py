"""Signed copies of a dataset's pictures, each with a C2PA manifest that says it was made by a trained model.

Copies, since a manifest inside a picture changes its bytes and a file beside it changes its folder, and the run folder
knows both by hash. A manifest has an identifier of its own, drawn at random: signing twice gives different bytes.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facesyn import __version__
from facesyn.errors import BackendError, RunError, UsageError
from facesyn.marking import SOURCE_TYPES, TRAINED, Marks, read_marks
from facesyn.reporting.figures import open_run

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
KEPT = ("README.md", "provenance.json")
"""What goes along beside the pictures and their rows; the rest belongs to the run folder."""


def sign_dataset(path: Path, output: Path, certificate: Path, key: Path, algorithm: str = "es256") -> int:
    """Write signed copies of all images and sources of the dataset `path` to `output`; returns how many.

    `certificate` is a PEM chain, the signer's first; `key` its private key in PEM (PKCS #8), which is never shown. The
    folder appears whole or not at all. Every manifest is read back and must hold. Raises UsageError for a certificate
    or key that cannot sign, RunError for a folder in the way, BackendError where c2pa is not installed.
    """
    from facesyn.out import out

    open_run(path)
    if output.exists():
        raise RunError(f"{output} exists already.", hint="Name a new folder for the signed copies.")
    signer = _open_signer(certificate, key, algorithm)
    pictures = list(_pictures(path))
    work = output.with_name(f".{output.name}.signing")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with out.progress("sign", len(pictures)) as advance:
            for picture in pictures:
                target = work / picture
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_signed(path / picture, signer))
                advance()
        for name in (*KEPT, "images/metadata.jsonl", "sources/sources.jsonl"):
            if (path / name).is_file():
                shutil.copyfile(path / name, work / name)
        os.replace(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(pictures)


def manifest_of(name: str, marks: Marks | None) -> dict[str, Any]:
    """The manifest of a picture: created, by what kind of source, with which tool; and its own marks."""
    tool = {"name": "facesyn", "version": __version__}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPES + (marks.source if marks else TRAINED),
        "softwareAgent": tool,
    }
    made = {key: value for key, value in vars(marks.made).items() if value is not None} if marks else {}
    if made:
        created["parameters"] = {f"facesyn.{key}": str(value) for key, value in made.items()}
    return {
        "claim_generator_info": [tool],
        "title": name,
        "format": "image/png",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }


def _pictures(path: Path) -> Iterator[Path]:
    for folder in ("sources", "images"):
        yield from (file.relative_to(path) for file in sorted((path / folder).rglob("*.png")))


def _open_signer(certificate: Path, key: Path, algorithm: str) -> Any:
    try:
        import c2pa
    except ImportError:
        raise BackendError("Signing needs c2pa, which is not installed.", hint="pip install 'facesyn[c2pa]'") from None
    if algorithm not in ALGORITHMS:
        raise UsageError(f"There is no signing algorithm {algorithm!r}.", hint=f"Use one of {', '.join(ALGORITHMS)}.")
    try:
        chain, secret = certificate.read_bytes(), key.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {error.filename}: {error.strerror}.") from None
    try:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, chain, secret, None))
    except c2pa.C2paError:
        # The library's words may quote what it was given, and that is a key.
        raise UsageError(
            f"{certificate} and {key} cannot sign with {algorithm}.",
            hint="A certificate chain and its unencrypted private key are needed, both in PEM, the key as PKCS #8.",
        ) from None


def _signed(picture: Path, signer: Any) -> bytes:
    import c2pa

    settings = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    target = io.BytesIO()
    try:
        builder = c2pa.Builder(json.dumps(manifest_of(picture.name, read_marks(picture))), c2pa.Context(settings))
        builder.sign(signer, "image/png", io.BytesIO(picture.read_bytes()), target)
        target.seek(0)
        state = c2pa.Reader("image/png", target).get_validation_state()
    except c2pa.C2paError as error:
        raise RunError(f"{picture} cannot be signed: {type(error).__name__.removeprefix('_C2pa')}.") from None
    if state not in ("Valid", "Trusted"):
        raise RunError(f"The manifest of {picture} does not hold: it is {str(state).lower()}.")
    return target.getvalue()
