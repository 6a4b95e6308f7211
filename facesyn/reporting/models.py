"""The models and banks behind a finished dataset: names, hashes and licences, as far as they can be read here now.

A licence is told only of weights that are here and are those the dataset was made with; of others it is unknown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesyn import registry
from facesyn.banks import BankPicture, bank_folder, digest, read_bank
from facesyn.dataset.recipe import Recipe
from facesyn.errors import FacesynError
from facesyn.licences import Use, commercial_use, licence_of
from facesyn.models import UNKNOWN, fingerprint, name_of
from facesyn.registry import Role


@dataclass(frozen=True)
class Link:
    """One link of the chain: `settings` are what the backend says of itself beside its weights."""

    role: str
    name: str
    sha256: str
    licence: str
    settings: dict[str, Any]

    @property
    def use(self) -> Use:
        return commercial_use(self.licence)


def links(recipe: Recipe, provenance: dict[str, Any]) -> list[Link]:
    """The chain in the order of the work."""
    found: list[Link] = []
    options = {"generator": recipe.generate, "transfer": recipe.transfer, "encoder": recipe.encoder}
    for role, table in options.items():
        facts = dict(provenance.get(role, {}))
        weights = {key: facts.pop(key) for key in ("model", "controlnet") if isinstance(facts.get(key), dict)}
        if "sha256" in facts:
            weights = {"model": {"name": table.backend, "sha256": facts.pop("sha256")}}
        for key, stated in weights.items():
            given = table.options.get(key, table.options.get("path", table.options.get("model", stated["name"])))
            name, sha256 = str(stated["name"]), str(stated["sha256"])
            label = role if key == "model" else f"{role}'s {key}"
            found.append(Link(label, name, sha256, _licence(str(given), sha256), facts if key == "model" else {}))
        if facts and not weights:
            found.append(Link(role, table.backend, "", UNKNOWN, facts))
    for part, name in (("edges", recipe.generate.edges), ("references", recipe.transfer.references)):
        if part in provenance:
            known = licence_of(name) if _bank_is(name, part, provenance[part]) else UNKNOWN
            found.append(Link(part, name_of(name), str(provenance[part]), known, {}))
    return found


def references_of(recipe: Recipe, provenance: dict[str, Any]) -> dict[str, BankPicture]:
    """The style references by name, where the bank is still as the dataset was made with it; none otherwise."""
    bank = _bank_is(recipe.transfer.references, "references", provenance.get("references", ""))
    return {picture.name: picture for picture in bank or []}


def _bank_is(name: str, part: str, sha256: str) -> list[BankPicture] | None:
    try:
        bank = read_bank(bank_folder(name, part))
    except FacesynError:
        return None
    return bank if digest(bank) == sha256 else None


def _licence(name: str, sha256: str) -> str:
    """The licence of the weights with that hash; `unknown` where `name` leads to no such weights on this disk."""
    if name in registry.names(Role.MODEL):
        folders = list(registry.bundle(name).folders().values())
    else:
        folders = [Path(name).expanduser()]
    places = [place for folder in folders for place in (folder, folder / "controlnet") if place.is_dir()]
    return licence_of(name) if any(fingerprint(place) == sha256 for place in places) else UNKNOWN
