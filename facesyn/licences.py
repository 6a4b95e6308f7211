"""Licences of models and banks: what they say, and whether that allows commercial use. Loads no weights.

A reading of what is stated, no legal advice: what is not stated, or not known here, is never taken for a yes.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesyn import registry
from facesyn.errors import UsageError
from facesyn.gates.settings import GateSettings
from facesyn.models import UNKNOWN, card_licence, hub_licence, is_hub_id, name_of
from facesyn.registry import Role

if TYPE_CHECKING:
    from facesyn.dataset.recipe import Recipe

WEIGHTS = ("model", "controlnet", "path", "landmarker")
"""The options by which backends are told their weights."""

_ALLOWED = frozenset(
    "apache-2.0 mit bsd-2-clause bsd-3-clause isc zlib unlicense cc0-1.0 cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 "
    "cc-by-sa-4.0 mpl-2.0 pddl odc-by cdla-permissive-1.0 cdla-permissive-2.0 artistic-2.0 bsl-1.0".split()
)
_RESTRICTED = frozenset(
    "openrail openrail++ creativeml-openrail-m bigscience-openrail-m bigcode-openrail-m "
    "bigscience-bloom-rail-1.0".split()
)
"""The responsible AI licences: commercial use is free, certain uses are not."""
_FORBIDDEN = re.compile(r"(^|[-_ ])(nc|non-?commercial|research(-only)?)([-_ .]|$)", re.IGNORECASE)

_TEXTS = (
    ("cc-by-nc", r"Attribution-NonCommercial|non-?commercial (research )?(use|purposes)"),
    ("openrail++", r"Open ?RAIL\+\+-M"),
    ("creativeml-openrail-m", r"CreativeML Open ?RAIL-M"),
    ("apache-2.0", r"Apache License\s+Version 2\.0"),
    ("mit", r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("cc0-1.0", r"CC0 1\.0 Universal"),
    ("cc-by-4.0", r"Creative Commons Attribution 4\.0"),
)
"""How licence texts are told, what forbids most first."""


class Use(StrEnum):
    """What a licence says of commercial use."""

    ALLOWED = "allowed"
    RESTRICTED = "allowed, with restrictions of use"
    FORBIDDEN = "forbidden"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Part:
    """One link of the chain behind a picture: what it is for, its name (never a path), its licence as stated."""

    role: str
    name: str
    licence: str

    @property
    def use(self) -> Use:
        return commercial_use(self.licence)


def commercial_use(licence: str) -> Use:
    """What the licence of that SPDX or hub identifier says of commercial use."""
    name = licence.strip().lower()
    if name in _ALLOWED:
        return Use.ALLOWED
    if name in _RESTRICTED:
        return Use.RESTRICTED
    return Use.FORBIDDEN if _FORBIDDEN.search(name) else Use.UNKNOWN


def licence_of(name: str) -> str:
    """The licence of a model or bank: a bundle's, a folder's (or that of a file's folder), a hub id's; or `unknown`."""
    if name in registry.names(Role.MODEL):
        return registry.bundle(name).licence
    path = Path(name).expanduser()
    if path.exists():
        folder = path if path.is_dir() else path.parent
        stated = card_licence(folder)
        return stated if stated != UNKNOWN else _licence_by_text(folder)
    return hub_licence(name) if is_hub_id(name) else UNKNOWN


def backend_parts(role: Role, backend: str, options: Mapping[str, Any]) -> list[Part]:
    """The weights a backend would load with `options`; one without such options may say `licence` as a class."""
    kind = registry.load(role, backend)
    defaults = {option.name: option.default for option in inspect.signature(kind).parameters.values()}
    given = {option: value for option, value in (defaults | dict(options)).items() if option in WEIGHTS}
    named = {option: str(value) for option, value in given.items() if value and value is not inspect.Parameter.empty}
    parts = [
        Part(role.value if option in ("model", "path") else f"{role}'s {option}", name_of(value), licence_of(value))
        for option, value in sorted(named.items(), key=lambda item: WEIGHTS.index(item[0]))
    ]
    stated = getattr(kind, "licence", None)
    if stated or not parts:
        parts.insert(0, Part(role.value, backend, str(stated or licence_of(backend))))
    return parts


def bank_part(name: str, part: str) -> Part:
    """A bank of `edges` or `references`."""
    return Part(part, name_of(name), licence_of(name))


def spec_parts(role: Role, spec: str) -> list[Part]:
    """The weights behind an encoder or classifier as the command line and recipes name it; none for an empty spec."""
    from facesyn.identity.encoders import parse_encoder

    return backend_parts(role, *parse_encoder(spec)) if spec else []


def recipe_chain(recipe: "Recipe") -> list[Part]:
    """All that would shape the pictures of a recipe, or judge them."""
    parts: list[Part] = []
    tables = (
        (Role.PROMPTER, recipe.prompts),
        (Role.GENERATOR, recipe.generate),
        (Role.TRANSFER, recipe.transfer),
        (Role.ENCODER, recipe.encoder),
    )
    for role, table in tables:
        parts += backend_parts(role, table.backend, table.options) if table.backend else []
    parts += [bank_part(recipe.generate.edges, "edges"), bank_part(recipe.transfer.references, "references")]
    return list(dict.fromkeys(parts + (gate_parts(recipe.gates) if recipe.gates.enabled else [])))


def gate_parts(gates: GateSettings) -> list[Part]:
    """The detector, landmarker and classifier that the closed gates ask."""
    parts = backend_parts(Role.DETECTOR, gates.detector, {}) if gates.one_face else []
    parts += [Part("landmarker", name_of(gates.landmarker), licence_of(gates.landmarker))] if gates.frontal else []
    return parts + (spec_parts(Role.CLASSIFIER, gates.classifier) if gates.classified else [])


def judges(encoder: str, classifier: str = "", gated: bool = True) -> list[Part]:
    """Who judges the pictures of one stage: the encoder, and with gates who else they ask."""
    return spec_parts(Role.ENCODER, encoder) + (gate_parts(GateSettings(classifier=classifier)) if gated else [])


def faces_parts(folder: Path) -> list[Part]:
    """The models behind a folder of source faces: its own licence where it states one, else what its rows name.

    A row's model counts as a bundle's where its weights are the bundle's.
    """
    from facesyn.models import fingerprint
    from facesyn.records import METADATA, FaceRow, read_rows

    stated = licence_of(str(folder))
    if stated != UNKNOWN or not (folder / METADATA).is_file():
        return [Part("faces", folder.name, stated)]
    named = {
        (key, str(facts.get("name")), str(facts.get("sha256")))
        for row in read_rows(folder / METADATA, FaceRow)
        for key, facts in row.generator.items()
        if isinstance(facts, dict)
    }
    parts = []
    for key, name, digest in sorted(named):
        bundled = registry.bundle(name) if name in registry.names(Role.MODEL) else None
        same = bundled is not None and any(
            fingerprint(place) == digest
            for part in bundled.folders().values()
            for place in (part, part / key)
            if place.is_dir()
        )
        parts.append(Part(f"{key} of {folder.name}", name, bundled.licence if bundled and same else UNKNOWN))
    return parts or [Part("faces", folder.name, UNKNOWN)]


def check_commercial(chain: Iterable[Part]) -> list[Part]:
    """The parts that allow commercial use with restrictions. Raises UsageError naming the first that does not allow it.

    Nothing is said of the law, nor of what the models were trained on.
    """
    restricted = []
    for part in chain:
        if part.use is Use.RESTRICTED:
            restricted.append(part)
        elif part.use is not Use.ALLOWED:
            raise UsageError(
                f"{part.name} ({part.role}) {_refusal(part)}.",
                hint="Use a model whose card or LICENSE file allows commercial use, or leave out --commercial.",
            )
    return restricted


def require_commercial(chain: Iterable[Part]) -> None:
    """`check_commercial` for commands: warns of restrictions of use on standard error."""
    from facesyn.out import out

    for part in check_commercial(chain):
        out.warning(f"{part.name} ({part.role}) allows commercial use with restrictions of use: {part.licence}.")


def _refusal(part: Part) -> str:
    if part.use is Use.FORBIDDEN:
        return f"is licensed under {part.licence}, which forbids commercial use"
    if part.licence == UNKNOWN:
        return "does not state its licence, so commercial use is not known to be allowed"
    return f"is licensed under {part.licence}, which is not known here to allow commercial use"


def _licence_by_text(folder: Path) -> str:
    """The licence whose text a LICENSE file holds, or `unknown`."""
    for file in sorted(folder.iterdir()):
        if re.fullmatch(r"(licen[cs]e|copying)(\.(md|txt))?", file.name, re.IGNORECASE) and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")[:200_000]
            return next((name for name, sign in _TEXTS if re.search(sign, text, re.IGNORECASE)), UNKNOWN)
    return UNKNOWN
