"""Where a UFG model's parts are. Loads nothing."""

from pathlib import Path

from facesyn.errors import ModelError
from facesyn.models import resolve

NO_INDEX = "A model is a folder in the diffusers format, with model_index.json."


def controlnet_folder(model: str, controlnet: str | None, folder: Path) -> Path:
    """The ControlNet asked for, or the one in the model's `folder`. Raises ModelError where there is none."""
    if controlnet is not None:
        return resolve(controlnet, "controlnet")
    if (folder / "controlnet").is_dir():
        return folder / "controlnet"
    raise ModelError(
        f"The model {model!r} has no ControlNet of its own.",
        hint="Add --controlnet with a Canny ControlNet's folder or hub id.",
    )
