"""The marks inside a picture's file: that it is synthetic, and what made it. Knows XMP packets, no pixels.

The mark is IPTC's DigitalSourceType; the rest is xmp:CreatorTool and a namespace of facesyn's own, with the identity,
the seed and the SHA-256 of the weights. All of it follows from the picture's row: the same row gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from facesyn import __version__
from facesyn.errors import ImageError

TRAINED, COMPUTED = "trainedAlgorithmicMedia", "algorithmicMedia"
"""IPTC's digital source types: made by a trained model, or by an algorithm that was trained on nothing."""
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
CHUNK = "XML:com.adobe.xmp"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OWN = "urn:facesyn:picture:1#"


@dataclass(frozen=True)
class Made:
    """What made a picture; None for what is not known of it."""

    identity: str | None = None
    seed: int | None = None
    model: str | None = None
    """SHA-256 of the weights."""


@dataclass(frozen=True)
class Marks:
    """What a file says of itself: IPTC's digital source type, the tool that made it, and how."""

    source: str
    tool: str | None
    made: Made


def model_of(facts: Mapping[str, Any]) -> str | None:
    """The SHA-256 of the weights among what a backend says of itself."""
    model = facts.get("model")
    return str(model["sha256"]) if isinstance(model, Mapping) and "sha256" in model else None


def packet(source: str = TRAINED, made: Made | None = None) -> str:
    """The XMP packet that says so."""
    made = made or Made()
    seed = None if made.seed is None else str(made.seed)
    own = {"Identity": made.identity, "Seed": seed, "Model": made.model}
    said = {name: value for name, value in own.items() if value is not None}
    attributes = [
        f'xmlns:Iptc4xmpExt="{_IPTC}" Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPES}{source}"',
        f'xmlns:xmp="{_XMP}" xmp:CreatorTool="facesyn {__version__}"',
        *([f'xmlns:facesyn="{_OWN}"'] if said else []),
        *(f"facesyn:{name}={quoteattr(value)}" for name, value in said.items()),
    ]
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" {" ".join(attributes)}/></rdf:RDF></x:xmpmeta>'
    )


def read_marks(path: Path) -> Marks | None:
    """What a PNG of facesyn says of itself; None where it is not marked. Raises ImageError for no picture.

    Only the header is read, no pixel.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = image.info.get(CHUNK)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{path} is no readable PNG.") from error
    # Packets have no document type; what has one is not ours, and could swell without bound.
    if not isinstance(text, str) or "<!" in text:
        return None
    try:
        found = ElementTree.fromstring(text).find(f".//{{{_RDF}}}Description")
    except ElementTree.ParseError:
        return None
    source = None if found is None else found.get(f"{{{_IPTC}}}DigitalSourceType")
    if found is None or source is None:
        return None
    seed = found.get(f"{{{_OWN}}}Seed")
    made = Made(
        found.get(f"{{{_OWN}}}Identity"),
        int(seed) if seed and seed.isdecimal() else None,
        found.get(f"{{{_OWN}}}Model"),
    )
    return Marks(source.removeprefix(SOURCE_TYPES), found.get(f"{{{_XMP}}}CreatorTool"), made)
