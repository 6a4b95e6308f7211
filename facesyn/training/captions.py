"""From a rendered face's exact label to the words a prompt would use, so that asked words and seen pixels agree."""

import random
from collections.abc import Mapping
from typing import Any

from facesyn.prompting.formulation import Formulation

_SHAPES = {
    "oval": "oval",
    "round": "round",
    "rectangular": "rectangular",
    "square": "square",
    "triangular": "triangular",
    "invertedtriangular": "heart-shaped",
    "diamond": "diamond",
}
_CLEAR = 0.2
"""Weight of a head-shape target from which the shape is plainly visible and therefore said."""

_DEGREES = {  # attribute: axes summed, words for the low, middle and high third
    "nose": (
        ("nose/nose-scale-horiz", "nose/nose-width2", "nose/nose-width3"),
        ("narrow", "average", "wide"),
    ),
    "lips": (
        ("mouth/mouth-upperlip-volume", "mouth/mouth-lowerlip-volume", "mouth/mouth-scale-vert"),
        ("thin", "average", "full"),
    ),
}
_THIRD = 0.25
_BUILD = "macrodetails/universal-"


def attributes_of(label: Mapping[str, Any]) -> dict[str, Any]:
    """The attribute dictionary of `facesyn.prompting.formulation` for a rendered face's label.

    Labels without `targets` (weights of the head's morph targets) give no face shape, build, nose, lips or eyebrows.
    """
    attributes: dict[str, Any] = {
        name: label[name] for name in ("ethnicity", "gender", "age", "hair_style", "eye_color")
    }
    attributes["skin"] = label["skin"].removesuffix(" skin")
    if label["hair_style"] not in ("bald", "shaved"):
        attributes["hair_color"] = label["hair_color"]
    if label["facial_hair"] != "none":
        attributes["facial_hair"] = label["facial_hair"]
    attributes["lipstick"] = label["lipstick"]
    targets: Mapping[str, float] | None = label.get("targets")
    if targets is not None:
        attributes |= _shape_words(targets)
        attributes["freckles"] = label["freckle"] > 0
        attributes["eyebrows"] = _third(label["brow_gain"], 0.72, 1.15, ("light", "average", "heavy"))
    return attributes


def caption_of(label: Mapping[str, Any], formulation: Formulation, rng: random.Random) -> str:
    """One of the sentences `facesyn prompts` would write about this face."""
    return formulation.render_prompt(attributes_of(label), rng)


def _shape_words(targets: Mapping[str, float]) -> dict[str, Any]:
    words: dict[str, Any] = {}
    weight, shape = max((targets.get(f"head/head-{name}", 0.0), word) for name, word in _SHAPES.items())
    if weight >= _CLEAR:
        words["face_shape"] = shape
    for name, (axes, degrees) in _DEGREES.items():
        value = sum(targets.get(f"{axis}-incr", 0.0) - targets.get(f"{axis}-decr", 0.0) for axis in axes)
        words[name] = _third(value, -_THIRD, _THIRD, degrees)
    fat = sum(
        value * (1 if name.endswith("maxweight") else -1) for name, value in targets.items() if name.startswith(_BUILD)
    )
    words["build"] = _third(fat, -0.15, 0.2, ("slim", "average", "full"))
    return words


def _third(value: float, low: float, high: float, words: tuple[str, str, str]) -> str:
    return words[0] if value < low else words[2] if value > high else words[1]
