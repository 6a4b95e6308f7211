"""The mean of two trained models, weight by weight, where the second was begun from the first.

    python -m facesyn.training.soup BEFORE AFTER 0.6 OUT

Both lie in one valley of the loss, and the mean may lie deeper than either end (Wortsman et al. 2022, "Model soups").
"""

import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from facesyn.errors import ModelError


def mean(before: Path, after: Path, share: float, folder: Path) -> None:
    """Write `after` to `folder`, its weights (1 − `share`) · before + `share` · after, in fp32; 0 <= share <= 1.

    All are diffusers folders. Raises ModelError where the two have other weights, by name or shape.
    """
    files = sorted(file.relative_to(after) for file in after.rglob("*.safetensors"))
    for file in files:
        old, new = ({} if not (place / file).exists() else load_file(place / file) for place in (before, after))
        if {name: each.shape for name, each in old.items()} != {name: each.shape for name, each in new.items()}:
            raise ModelError(
                f"{file} of {before} is not that of {after}.", hint="Only models of one shape have a mean."
            )
    shutil.copytree(after, folder)
    for file in files:
        old, new = load_file(before / file), load_file(after / file)
        mixed = {
            name: old[name].float().lerp(new[name].float(), share) if new[name].is_floating_point() else new[name]
            for name in new
        }
        save_file(mixed, folder / file, metadata={"format": "pt"})


if __name__ == "__main__":
    mean(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
