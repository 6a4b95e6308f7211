"""What model folders say about themselves: their class, the settings they were made for, and how a row names them.

Loads no weights and nothing heavy.
"""

import json
from pathlib import Path
from typing import Any

from facesyn.errors import ModelError
from facesyn.models import fingerprint

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


def name_of(model: str, folder: Path) -> dict[str, str]:
    """How a row names a model: by bundle name, hub id or the folder's own name, never by a path; and by its content."""
    looks_like_path = model.startswith((".", "/", "~")) or Path(model).expanduser().is_dir()
    return {"name": folder.name if looks_like_path else model, "sha256": fingerprint(folder)}
