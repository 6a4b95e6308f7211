"""Styles: all that a person changes or a camera adds, as named factors sampled one by one. Knows no identity.

A factor of a style is a pure function of (run seed, style number, factor), so that any one can be exchanged while the
others stay as they are.
"""

from dataclasses import dataclass, replace

import numpy as np

from facesyn.demographics import DEFAULT_ETHNICITIES
from facesyn.references.expressions import Expression, sample_expression
from facesyn.references.grooming import (
    Beard,
    Glasses,
    Hair,
    Hat,
    MakeUp,
    Rgb,
    blend,
    pick,
    sample_beard,
    sample_glasses,
    sample_hair,
    sample_hat,
    sample_make_up,
)
from facesyn.references.lighting import Light, sample_light, studio_light
from facesyn.references.people import Identity
from facesyn.rendered import REFERENCE_STYLE
from facesyn.seeds import derive_seed

FACTORS = (
    "pose",
    "camera",
    "light",
    "expression",
    "background",
    "clothing",
    "hair",
    "beard",
    "make_up",
    "glasses",
    "quality",
    "hat",
)
_BACKGROUNDS = {"plain": 0.28, "gradient": 0.24, "noise": 0.22, "shapes": 0.26}
_NECKLINES = ((5.98, 0.28, 0.0), (6.10, 0.10, 0.0), (6.0, 0.12, 0.55), (6.22, 0.10, 0.0), (5.8, 0.35, 0.25))


@dataclass(frozen=True)
class Pose:
    """Degrees. yaw > 0: the face turns to the picture's right; pitch > 0: it looks up; roll > 0: clockwise.

    `body` is how much of the yaw the torso follows, 0 to 1.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    body: float = 1.0


@dataclass(frozen=True)
class Camera:
    """`distance` to the head in decimetres (near cameras distort).

    `azimuth` and `elevation`: degrees round the head, lights and torso staying where they are; positive to the
    picture's right and upwards. `name` is one of Multi-PIE's, where it is one.
    """

    distance: float = 16.0
    azimuth: float = 0.0
    elevation: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Background:
    """`seed` places what `kind` draws in the four colours."""

    kind: str
    seed: int
    colours: tuple[Rgb, ...]


@dataclass(frozen=True)
class Clothing:
    """`neckline`: height, fall in front and depth of a V in decimetres; `stripes` in [0, 1]."""

    rgb: Rgb
    neckline: tuple[float, float, float]
    stripes: float = 0.0


@dataclass(frozen=True)
class Quality:
    """Photographic degradation of a picture of 128 pixels, none where a field is None.

    `blur`: radius in pixels; `noise`: standard deviation of 255; `jpeg`: quality; `gamma`; `grey`: share of colour
    lost.
    """

    blur: float | None = None
    noise: float | None = None
    jpeg: int | None = None
    gamma: float | None = None
    grey: float | None = None


@dataclass(frozen=True)
class Style:
    """`number` -1 is the reference style: neutral, frontal, plain background, the person's own grooming."""

    number: int
    pose: Pose
    camera: Camera
    light: Light
    expression: Expression
    background: Background
    clothing: Clothing
    hair: Hair
    beard: Beard
    make_up: MakeUp
    glasses: Glasses | None
    quality: Quality
    hat: Hat | None

    def exchanged(self, factor: str, other: "Style") -> "Style":
        """This style with one factor of another."""
        return replace(self, **{factor: getattr(other, factor)})


def reference_style(identity: Identity) -> Style:
    """How a source face is shown: as an identity document would."""
    return Style(
        number=REFERENCE_STYLE,
        pose=Pose(),
        camera=Camera(),
        light=studio_light(),
        expression=Expression("neutral"),
        background=Background("plain", 0, ((196, 198, 201),) * 4),
        clothing=Clothing((96, 100, 108), _NECKLINES[0]),
        hair=identity.hair,
        beard=identity.beard,
        make_up=replace(identity.make_up, shine=0.7),
        glasses=None,
        quality=Quality(),
        hat=None,
    )


class Styles:
    """Samples styles; `hair_meshes` are the hair cuts the assets have."""

    def __init__(self, hair_meshes: list[str], seed: int = 0):
        self._hair_meshes, self._seed = hair_meshes, seed

    def style(self, number: int, gender: str) -> Style:
        """Style `number` for a person of `gender`: hair, beard and make-up differ by gender, the rest does not."""

        def rng(factor: str) -> np.random.Generator:
            return np.random.default_rng(derive_seed(self._seed, f"style {factor}", str(number)))

        groom = np.random.default_rng(derive_seed(self._seed, f"style grooming {gender}", str(number)))
        ethnicity, age = str(groom.choice(DEFAULT_ETHNICITIES, p=(0.2, 0.25, 0.35, 0.2))), int(groom.integers(18, 66))
        pose = sample_pose(rng("pose"))
        return Style(
            number=number,
            pose=pose,
            camera=Camera(float(np.exp(rng("camera").uniform(np.log(6.5), np.log(24))))),
            light=sample_light(rng("light")),
            expression=sample_expression(rng("expression"), yaw=pose.yaw),
            background=sample_background(rng("background")),
            clothing=sample_clothing(rng("clothing")),
            hair=sample_hair(groom, ethnicity, gender, age, self._hair_meshes),
            beard=sample_beard(groom, ethnicity, gender),
            make_up=sample_make_up(groom, gender, age),
            glasses=sample_glasses(rng("glasses")),
            quality=sample_quality(rng("quality")),
            hat=sample_hat(rng("hat")),
        )


def sample_pose(rng: np.random.Generator) -> Pose:
    u, r, side = rng.uniform, rng.random(), float(rng.choice([-1, 1]))
    yaw = u(-12, 12) if r < 0.25 else side * (u(12, 45) if r < 0.82 else u(45, 75))
    pitch = float(np.clip(rng.normal(0, 9), -25, 22)) * (1 - 0.4 * abs(yaw) / 75)
    return Pose(float(yaw), pitch, float(np.clip(rng.normal(0, 5), -14, 14)), u(0.35, 1.0))


def sample_background(rng: np.random.Generator) -> Background:
    u, hue = rng.uniform, rng.uniform(0, 1)
    colours = []
    for _ in range(4):
        grey: Rgb = (u(0.25, 0.75),) * 3
        tint = _hue(hue + rng.normal(0, 0.08))
        r, g, b = (np.array(blend(grey, tint, u(0, 0.36) ** 1.2)) * u(0.35, 1.25) * 255).clip(5, 250).tolist()
        colours.append((r, g, b))
    return Background(pick(rng, _BACKGROUNDS), int(rng.integers(1 << 30)), tuple(colours))


def sample_clothing(rng: np.random.Generator) -> Clothing:
    u = rng.uniform
    tint = blend((0.5, 0.5, 0.5), _hue(u(0, 1)), u(0, 0.8))
    r, g, b = (np.array(tint) * u(0.15, 1.5) * 255).clip(8, 245).tolist()
    neckline = _NECKLINES[int(rng.choice(len(_NECKLINES), p=[0.4, 0.2, 0.2, 0.08, 0.12]))]
    return Clothing((r, g, b), neckline, u(0, 0.8) if rng.random() < 0.2 else 0.0)


def sample_quality(rng: np.random.Generator) -> Quality:
    u = rng.uniform
    chance = rng.random(5)
    return Quality(
        blur=u(0.3, 0.8) if chance[0] < 0.30 else None,
        noise=u(1.0, 5.0) if chance[1] < 0.35 else None,
        jpeg=int(u(45, 85)) if chance[2] < 0.25 else None,
        gamma=u(0.85, 1.2) if chance[3] < 0.15 else None,
        grey=u(0.5, 1.0) if chance[4] < 0.06 else None,
    )


def _hue(turn: float) -> Rgb:
    r, g, b = (0.5 + 0.5 * np.cos(2 * np.pi * (turn + np.array([0, 0.67, 0.33])))).tolist()
    return r, g, b
