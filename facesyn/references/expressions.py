"""Expressions by name, as weights of MakeHuman's expression units. Knows no mesh."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from facesyn.references.grooming import pick

PROBABILITIES = {
    "neutral": 0.24,
    "smile": 0.18,
    "open smile": 0.12,
    "frown": 0.08,
    "sad": 0.07,
    "surprise": 0.08,
    "mouth open": 0.06,
    "eyes closed": 0.05,
    "raised brows": 0.05,
    "pursed lips": 0.04,
    "disgust": 0.03,
}
MULTI_PIE = ("neutral", "smile", "surprise", "squint", "disgust", "scream")
NAMES = tuple(dict.fromkeys((*PROBABILITIES, *MULTI_PIE)))

Range = tuple[float, float]
_UNITS: dict[str, dict[str, Range]] = {  # * stands for left and right
    "neutral": {},
    "smile": {"mouth-corner-puller": (0.45, 1.0), "eye-*-slit": (0.05, 0.3)},
    "open smile": {
        "mouth-corner-puller": (0.6, 1.0),
        "mouth-open": (0.12, 0.30),
        "mouth-upward-retraction": (0.1, 0.35),
        "eye-*-slit": (0.1, 0.35),
    },
    "frown": {
        "eyebrows-*-down": (0.6, 1.0),
        "mouth-compression": (0, 0.5),
        "mouth-depression": (0, 0.4),
        "eye-*-slit": (0.1, 0.4),
    },
    "sad": {"eyebrows-*-inner-up": (0.6, 1.0), "mouth-depression": (0.4, 0.9), "eye-*-closure": (0, 0.2)},
    "surprise": {
        "eyebrows-*-up": (0.6, 1.0),
        "eyebrows-*-extern-up": (0.2, 0.6),
        "eye-*-opened-up": (0.4, 0.9),
        "mouth-open": (0.25, 0.6),
    },
    "mouth open": {"mouth-open": (0.2, 0.65)},
    "eyes closed": {"eye-*-closure": (1.0, 1.0)},
    "raised brows": {"eyebrows-*-up": (0.5, 1.0), "eyebrows-*-inner-up": (0, 0.4)},
    "pursed lips": {"mouth-pursing": (0.35, 0.8)},
    "disgust": {
        "nose-*-elevation": (0.4, 0.8),
        "mouth-upward-retraction": (0.2, 0.6),
        "eyebrows-*-down": (0.3, 0.7),
    },
    "squint": {"eye-*-slit": (0.7, 1.0), "eyebrows-*-down": (0.3, 0.6), "nose-*-elevation": (0.1, 0.4)},
    "scream": {
        "mouth-open": (0.8, 1.0),
        "eye-*-slit": (0.4, 0.8),
        "eyebrows-*-down": (0.2, 0.6),
        "nose-*-elevation": (0.2, 0.5),
    },
}


@dataclass(frozen=True)
class Expression:
    """`weights` of expression units; `gaze`: degrees the eyes turn to the picture's right, and up, within the head."""

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)

    @property
    def shows_teeth(self) -> bool:
        return self.weights.get("mouth-open", 0) > 0.05


def sample_expression(rng: np.random.Generator, name: str | None = None, yaw: float = 0.0) -> Expression:
    """An expression of that name, or of a random one; eyes tend back to the camera when the head turns by `yaw`."""
    name = name or pick(rng, PROBABILITIES)
    weights: dict[str, float] = {}
    for unit, (low, high) in _UNITS[name].items():
        weight = rng.uniform(low, high)
        for side in ("left", "right") if "*" in unit else ("",):
            uneven = rng.normal(0, 0.04) if side and low < high else 0.0
            weights[unit.replace("*", side)] = float(np.clip(weight + uneven, 0, 1.1))
    if name not in ("eyes closed", "surprise") and rng.random() < 0.3:
        lids = rng.uniform(0, 0.15)
        for side in ("left", "right"):
            unit = f"eye-{side}-closure"
            weights[unit] = weights.get(unit, 0.0) + lids
    gaze = (
        float(np.clip(-yaw * rng.uniform(0, 0.5) + rng.normal(0, 6), -26, 26)),
        float(np.clip(rng.normal(0, 4), -9, 9)),
    )
    return Expression(name, {unit: weight for unit, weight in weights.items() if weight > 0.01}, gaze)
