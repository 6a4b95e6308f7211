"""What model folders say about themselves: their class, the settings they were made for, and how a row names them.

Loads no weights and nothing heavy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from facesyn.errors import ModelError, UsageError
from facesyn.models import fingerprint

Number = TypeVar("Number", int, float)

DEFAULTS = "facesyn.json"
"""Optional file in a model folder: the sampling settings it works best with."""


def read_json(file: Path, hint: str) -> dict[str, Any]:
    """Raises ModelError with `hint` where the file is missing or no JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{file} cannot be read.", hint=hint) from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a JSON object.", hint=hint)
    return content


def default_settings(folder: Path) -> dict[str, Any]:
    """The settings in `folder/facesyn.json`; empty where there is no such file."""
    file = folder / DEFAULTS
    return read_json(file, "Remove it or mend it.") if file.exists() else {}


def setting(defaults: Mapping[str, Any], name: str, asked: Number | None, otherwise: Number, least: Number) -> Number:
    """What is `asked` for, else what the model was made for, else `otherwise`.

    Raises UsageError for less than `least`, ModelError where the model says another kind of thing.
    """
    value = type(otherwise)(_made_for(defaults, name, otherwise, (int, float)) if asked is None else asked)
    if not value >= least:  # nor a number that is none
        raise UsageError(f"{name} is at least {least}, not {value}.")
    return value


def switch(defaults: Mapping[str, Any], name: str, asked: bool | None) -> bool:
    """Likewise, of what is on or off; off where nobody says."""
    return bool(_made_for(defaults, name, False, (bool,)) if asked is None else asked)


def _made_for(defaults: Mapping[str, Any], name: str, otherwise: Any, kinds: tuple[type, ...]) -> Any:
    value = defaults.get(name, otherwise)
    if isinstance(value, kinds) and isinstance(value, bool) == (bool in kinds):
        return value
    wanted = "true or false" if bool in kinds else "a number"
    raise ModelError(f"{name} in the model's {DEFAULTS} is {wanted}, not {value!r}.", hint="Mend it, or pass your own.")


def name_of(model: str, folder: Path) -> dict[str, str]:
    """How a row names a model: by bundle name, hub id or the folder's own name, never by a path; and by its content."""
    looks_like_path = model.startswith((".", "/", "~")) or Path(model).expanduser().is_dir()
    return {"name": folder.name if looks_like_path else model, "sha256": fingerprint(folder)}
