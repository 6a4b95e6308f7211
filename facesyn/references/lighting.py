"""Lights: named moods, and Multi-PIE's flashes. Directions point from the head to the light, in the picture's frame.

The frame is the camera's: +x right, +y up, +z towards the camera.
"""

from dataclasses import dataclass

import numpy as np

from facesyn.references.grooming import pick

MOODS = {
    "soft": 0.22,
    "side": 0.16,
    "top": 0.10,
    "outdoor": 0.16,
    "rim": 0.08,
    "warm": 0.10,
    "cool": 0.08,
    "two-colour": 0.06,
    "low-key": 0.04,
}


@dataclass(frozen=True, eq=False)
class Light:
    """Three directional lights, of which the first casts shadows, and the surroundings.

    `directions` (3, 3) unit vectors; `colours` (3, 3) linear RGB; `surroundings` (9, 3): irradiance / π as
    coefficients of 1, x, y, z, xy, yz, 3z² − 1, xz, x² − y² of the normal.
    """

    name: str
    directions: np.ndarray
    colours: np.ndarray
    surroundings: np.ndarray
    exposure: float = 1.0

    def turned(self, rotation: np.ndarray) -> "Light":
        """The same lights seen by a camera for which the world is turned by `rotation` (3, 3).

        Only the constant and linear part of the surroundings turns along; higher terms are left out.
        """
        surroundings = np.zeros((9, 3))
        surroundings[0] = self.surroundings[0]
        surroundings[1:4] = rotation @ self.surroundings[1:4]
        return Light(self.name, self.directions @ rotation.T, self.colours, surroundings, self.exposure)


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector; degrees, azimuth 0 at the camera and positive to the right."""
    a, e = np.radians([azimuth, elevation])
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def white_balance(t: float) -> np.ndarray:
    """(3,) tint for t from -1 (warm) to 1 (cool)."""
    warm, cool = max(-t, 0), max(t, 0)
    return np.array([1 - 0.20 * cool + 0.10 * warm, 1 - 0.02 * abs(t), 1 + 0.16 * cool - 0.34 * warm])


def project_surroundings(towards: np.ndarray, radiance: np.ndarray) -> np.ndarray:
    """(9, 3) coefficients for `Light.surroundings` from radiance (n, 3) seen in evenly spread directions (n, 3).

    Spherical harmonics up to order 2 with the clamped cosine's factors 1, 2/3, 1/4: Ramamoorthi and Hanrahan (2001).
    """
    x, y, z = towards.T
    basis = np.stack([np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y])
    power = np.array([1, 3, 3, 3, 15, 15, 5 / 4, 15, 15 / 4])  # 1 over each function's mean square on the sphere
    falloff = np.array([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    coefficients: np.ndarray = (basis @ radiance / len(towards)) * (power * falloff)[:, None]
    return coefficients


def sphere(count: int) -> np.ndarray:
    """(count, 3) evenly spread unit vectors: Fibonacci's spiral."""
    i = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], 1)


def sample_light(rng: np.random.Generator, name: str | None = None) -> Light:
    """A light of the mood `name`, or of a random one."""
    u = rng.uniform
    name = name or pick(rng, MOODS)
    side = 1 if rng.random() < 0.5 else -1
    tint = white_balance({"warm": u(-1, -0.5), "cool": u(0.5, 1)}.get(name, u(-0.25, 0.25)))
    key, fill, back, level = u(0.55, 0.8), u(0.1, 0.2), u(0, 0.2), u(0.30, 0.42)
    key_from, fill_from = direction(side * u(10, 45), u(15, 45)), direction(-side * u(30, 80), u(-10, 30))
    back_from, fill_tint = direction(side * u(130, 200), u(10, 50)), white_balance(u(-0.4, 0.4))
    ambient, right, up, front = np.ones(3), u(-0.08, 0.08), u(0.02, 0.14), u(-0.02, 0.1)
    if name == "side":
        key, fill, level, key_from = u(0.9, 1.25), u(0.02, 0.12), u(0.13, 0.24), direction(side * u(50, 88), u(0, 35))
    elif name == "top":
        key, level, key_from = u(0.9, 1.2), u(0.18, 0.28), direction(side * u(0, 30), u(50, 72))
    elif name == "outdoor":
        key, level, up, ambient = u(0.8, 1.2), u(0.28, 0.4), u(0.12, 0.22), white_balance(u(0.1, 0.5))
        key_from = direction(side * u(10, 75), u(25, 60))
    elif name == "rim":
        key, back, level, back_from = u(0.25, 0.5), u(1.2, 2.2), u(0.15, 0.26), direction(side * u(115, 155), u(5, 40))
    elif name == "two-colour":
        tint, fill_tint = 0.35 + 0.75 * _hue(u(0, 1)), 0.35 + 0.75 * _hue(u(0, 1))
        key, fill, level = u(0.6, 0.9), u(0.5, 0.9), u(0.08, 0.18)
        key_from, fill_from = direction(side * u(35, 80), u(0, 30)), direction(-side * u(45, 90), u(-5, 25))
    elif name == "low-key":
        key, fill, level, key_from = u(0.5, 0.75), 0.0, u(0.04, 0.09), direction(side * u(20, 70), u(10, 55))
    gradient = [right * np.ones(3), up * white_balance(u(0, 0.5)), front * np.ones(3)]
    surroundings = np.concatenate([[level * ambient], gradient, np.zeros((5, 3))])
    if name in ("soft", "outdoor", "warm", "cool"):
        surroundings = surroundings + _patches(rng, level)
    return Light(
        name,
        np.stack([key_from, fill_from, back_from]),
        np.stack([key * tint, fill * fill_tint, back * white_balance(u(-0.5, 0.5))]),
        surroundings,
        exposure=float(np.exp(rng.normal(0, 0.10))),
    )


def _patches(rng: np.random.Generator, level: float) -> np.ndarray:
    """A few bright and dark patches of the surroundings, as windows and walls are; no light in sum."""
    towards = sphere(96)
    radiance = np.zeros((len(towards), 3))
    for _ in range(int(rng.integers(1, 4))):
        centre = towards[rng.integers(len(towards))]
        size = rng.uniform(2, 8)
        radiance += (
            rng.normal(0, 0.7) * np.exp(size * (towards @ centre - 1))[:, None] * white_balance(rng.uniform(-0.5, 0.5))
        )
    return level * project_surroundings(towards, radiance - radiance.mean(0))


def _hue(turn: float) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.cos(2 * np.pi * (turn + np.array([0, 0.67, 0.33]))))


def studio_light() -> Light:
    """Soft light from the front, in which every reference portrait is taken."""
    return Light(
        "soft",
        np.stack([direction(18, 30), direction(-50, 10), direction(180, 40)]),
        np.array([[0.52, 0.50, 0.48], [0.12, 0.12, 0.13], [0.12, 0.12, 0.12]]),
        np.concatenate([[[0.36, 0.36, 0.37], [0, 0, 0], [0.07, 0.07, 0.08], [0.04, 0.04, 0.04]], np.zeros((5, 3))]),
    )


FLASHES = (
    {"00": None}
    | {f"{number:02d}": (15.0 * (number - 7), 0.0) for number in range(1, 14)}
    | {f"{number:02d}": (22.5 * (number - 16), 40.0) for number in range(14, 19)}
    | {"19": None}
)
"""Multi-PIE's 20 images of one camera: 00 and 19 by room light only, 01-13 by a flash at each camera of the row at
head height (07 in front), 14-18 by one of five flashes above. Azimuth and elevation in degrees from the head; the
spacing of the row is that of the cameras, the five above are our reading, evenly spread between the two raised
cameras, and so is the side on which we begin.
"""


def flash_light(name: str) -> Light:
    """The room's light and one of Multi-PIE's flashes; in the head's frame."""
    place = FLASHES[name]
    room = np.concatenate([[[0.30, 0.29, 0.27], [0, 0, 0], [0.10, 0.10, 0.09], [0.02, 0.02, 0.02]], np.zeros((5, 3))])
    flash = direction(*place) if place else direction(0, 70)
    colour = [0.85, 0.85, 0.88] if place else [0.18, 0.17, 0.16]
    return Light(
        f"flash {name}" if place else "room",
        np.stack([flash, direction(-60, 60), direction(60, 60)]),
        np.array([colour, [0.05, 0.05, 0.05], [0.05, 0.05, 0.05]]),
        room,
    )
