"""Identities: what stays of a person (bones, features, skin, eyes, age), sampled per demographic cell. Draws nothing.

A pure function of (run seed, number, cell). Ethnicity and gender are requested appearance categories, made from
MakeHuman's stylised shapes and skins; they are no sample of any population.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from facesyn import registry
from facesyn.demographics import DEFAULT_ETHNICITIES, DEFAULT_GENDERS, Cell
from facesyn.errors import UsageError
from facesyn.references.assets import Assets
from facesyn.references.grooming import (
    HAIR_RGB,
    Beard,
    Hair,
    MakeUp,
    Rgb,
    blend,
    pick,
    sample_beard,
    sample_hair,
    sample_make_up,
)
from facesyn.seeds import derive_seed

_PAIRS = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("uncompress", "compress"),
)
_SPREADS = (  # axis name → standard deviation of its weight; the first match wins, 0 leaves the axis out
    (r"head/head-(trans|age)", 0),
    (r"head/head-scale-(horiz|vert)", 0.28),
    (r"head/head-scale-depth", 0.18),
    (r"head/head-angle", 0.12),
    (r"head/head-fat", 0.32),
    (r"neck/neck-trans", 0.05),
    (r"neck/neck-double", 0),
    (r"neck/", 0.18),
    (r"mouth/mouth-trans-(in|out|backward)", 0),
    (r"mouth/mouth-trans", 0.28),
    (r"mouth/mouth-laugh", 0),
    (r"mouth/mouth-angles", 0.3),
    (r"nose/nose-trans-(in|out)", 0),
    (r"nose/nose-trans", 0.22),
    (r"nose/", 0.48),
    (r"eyes/.*-trans", 0.28),
    (r"eyes/.*-bag", 0.15),
    (r"eyes/.*-(scale|height2)", 0.3),
    (r"eyes/.*-push", 0.2),
    (r"eyes/", 0.42),
    (r"ears/", 0.35),
    (r"eyebrows/eyebrows-angle", 0.3),
    (r"eyebrows/", 0.4),
    (r"chin/", 0.45),
    (r"cheek/", 0.5),
    (r"forehead/", 0.25),
    (r".*", 0.4),
)
_STRENGTH = 0.64
_HEAD_SHAPES = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")
_MAIN_RACE = {"African": "african", "East Asian": "asian", "Caucasian": "caucasian"}
_SKIN: dict[str, list[Rgb]] = {  # light to dark
    "African": [(164, 118, 92), (138, 95, 72), (112, 76, 58), (88, 59, 46), (68, 46, 38)],
    "East Asian": [(233, 198, 172), (228, 188, 160), (214, 170, 138), (196, 150, 118)],
    "Caucasian": [(238, 202, 184), (231, 190, 169), (224, 178, 154), (208, 160, 134)],
    "South Asian": [(208, 160, 128), (186, 136, 104), (162, 114, 84), (136, 94, 70), (112, 76, 57)],
}
_SKIN_WORDS = ((168, "fair"), (142, "light"), (118, "medium"), (95, "tan"), (72, "brown"), (0, "dark brown"))
_IRIS = {  # word: texture, gain, saturation
    "dark brown": ("brown", 0.50, 0.45),
    "brown": ("brownlight", 0.75, 0.75),
    "hazel": ("brownlight", 1.2, 0.8),
    "green": ("green", 1.0, 0.6),
    "blue": ("blue", 1.0, 0.75),
    "light blue": ("lightblue", 1.0, 0.7),
    "grey": ("grey", 1.0, 0.5),
}
_EYE_COLOURS = {
    "African": {"dark brown": 0.85, "brown": 0.15},
    "East Asian": {"dark brown": 0.8, "brown": 0.2},
    "South Asian": {"dark brown": 0.68, "brown": 0.27, "hazel": 0.05},
    "Caucasian": {
        "dark brown": 0.12,
        "brown": 0.25,
        "hazel": 0.14,
        "green": 0.12,
        "blue": 0.22,
        "light blue": 0.08,
        "grey": 0.07,
    },
}

Axis = tuple[str, str, float]
"""Target for negative weights, target for positive ones, standard deviation."""


@dataclass(frozen=True)
class Skin:
    """`textures`: ((age, race, gender), index among its files, weight); the rest shapes colour and relief."""

    textures: tuple[tuple[tuple[str, str, str], int, float], ...]
    rgb: Rgb
    saturation: float
    roughness: float
    gloss: float
    bump: float
    freckles: float
    mottle: float
    flush: float
    wrinkles: float
    word: str


@dataclass(frozen=True)
class Identity:
    """A person of a cell. `targets` are weights of morph targets, `races` shares of MakeHuman's macro shapes."""

    number: int
    cell: Cell
    age: int
    targets: Mapping[str, float]
    races: Mapping[str, float]
    skin: Skin
    iris: tuple[str, float, float]
    eye_colour: str
    brows: str
    brow_rgb: Rgb
    brow_gain: float
    lashes: str
    noise: float
    hair: Hair
    beard: Beard
    make_up: MakeUp

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


def detail_axes(names: Iterable[str]) -> list[Axis]:
    """The pairs of opposite targets among `names` that describe a face; a right twin follows its left one."""
    known, used = set(names), set[str]()
    axes: list[Axis] = []
    for name in sorted(known):
        if name.split("/")[0] in ("macrodetails", "expression", "asym") or "/r-" in name or name in used:
            continue
        for negative, positive in _PAIRS:
            if name.endswith(f"-{negative}") and (other := name.removesuffix(negative) + positive) in known:
                used |= {name, other}
                spread = next(spread for pattern, spread in _SPREADS if re.match(pattern, name))
                if spread:
                    axes.append((name, other, spread))
    return axes


class People:
    """Samples identities from what an asset folder offers. Raises UsageError for a cell it has no shapes for."""

    def __init__(self, assets: Assets, seed: int = 0):
        self._assets, self._seed = assets, seed
        self._axes = detail_axes(assets.targets)
        self._asymmetries = sorted({name[:-2] for name in assets.targets if name.startswith("asym/")})
        self._hair_meshes = assets.names("hair")

    def identity(self, number: int, cell: Cell) -> Identity:
        """The person of that number: the same for the same run seed, number and cell."""
        check_cell(cell)
        rng = np.random.default_rng(derive_seed(self._seed, "identity", f"{number}/{cell}"))
        ethnicity, gender = cell.ethnicity, cell.gender
        age = int(rng.integers(cell.age_interval.low, min(cell.age_interval.high, 90) + 1))
        races = _races(rng, ethnicity)
        targets = self._targets(rng, ethnicity, gender, age, races)
        skin = self._skin(rng, ethnicity, gender, age)
        hair = sample_hair(rng, ethnicity, gender, age, self._hair_meshes)
        u, female = rng.uniform, gender == "female"
        eye_colour = pick(rng, _EYE_COLOURS[ethnicity])
        texture, gain, saturation = _IRIS[eye_colour]
        natural = hair.colour.removeprefix("greying ")
        shade = u(0.65, 0.9) * (0.75 if natural == "blond" else 1)
        r, g, b = (channel * shade for channel in blend(hair.rgb, HAIR_RGB.get(natural, hair.rgb), 0.25))
        return Identity(
            number=number,
            cell=cell,
            age=age,
            targets={name: weight for name, weight in targets.items() if name in self._assets.targets},
            races=races,
            skin=skin,
            iris=(texture if texture in self._assets.irises else next(iter(self._assets.irises)), gain, saturation),
            eye_colour=eye_colour,
            brows=str(rng.choice(self._assets.names("eyebrows"))),
            brow_rgb=(r, g, b),
            brow_gain=u(0.55, 0.95) if female else u(0.85, 1.4),
            lashes=self._lashes(rng, female),
            noise=u(0, 60),
            hair=hair,
            beard=sample_beard(rng, ethnicity, gender),
            make_up=sample_make_up(rng, gender, age),
        )

    def _lashes(self, rng: np.random.Generator, female: bool) -> str:
        names = self._assets.names("eyelashes")
        long = [name for name in names if not name.endswith("01")]
        return str(rng.choice(long or names)) if female else names[0]

    def _targets(
        self, rng: np.random.Generator, ethnicity: str, gender: str, age: int, races: Mapping[str, float]
    ) -> dict[str, float]:
        u, female = rng.uniform, gender == "female"
        targets: dict[str, float] = {}

        def add(name: str, weight: float) -> None:
            targets[name] = targets.get(name, 0.0) + float(weight)

        own = u(0.94, 1.08)
        old = float(np.clip((age - 25) / 65, 0, 1))
        for race, share in races.items():
            for name, weight in ((gender, own), ("male" if female else "female", 1 - own)):
                add(f"macrodetails/{race}-{name}-young", share * weight * (1 - old))
                add(f"macrodetails/{race}-{name}-old", share * weight * old)
        fat = _normal(rng, 0.32, 0.8) + 0.12 * (age > 40)
        extreme = "max" if fat > 0 else "min"
        for name, weight in (("young", 1 - old), ("old", old)):
            add(f"macrodetails/universal-{gender}-{name}-averagemuscle-{extreme}weight", abs(fat) * 0.8 * weight)
        for negative, positive, spread in self._axes:
            weight = _normal(rng, spread * _STRENGTH, 0.9)
            name = positive if weight > 0 else negative
            add(name, abs(weight))
            if "/l-" in name:
                add(name.replace("/l-", "/r-"), float(np.clip(abs(weight) + rng.normal(0, 0.06), 0, 1)))
        for shape in rng.choice(_HEAD_SHAPES, 2, replace=False):
            add(f"head/head-{shape}", u(0, 0.45))
        add("neck/neck-double-incr", max(0.0, fat * 0.9 + (age - 45) / 60 + rng.normal(0, 0.15)))
        aged = float(np.clip((age - 38) / 40, 0, 1))
        for side in "lr":
            add(f"eyes/{side}-eye-bag-incr", aged * u(0.2, 0.9))
            add(f"eyes/{side}-eye-bag-out", aged * u(0, 0.6))
            add(f"eyes/{side}-eye-epicanthus-in", u(0, 0.5) * (ethnicity == "East Asian"))
            add(f"eyes/{side}-eye-scale-incr", u(0.05, 0.35) * female)
        add("mouth/mouth-laugh-lines-out", aged * u(0.2, 0.9))
        for name in rng.choice(self._asymmetries, min(10, len(self._asymmetries)), replace=False):
            add(f"{name}{rng.choice(['-l', '-r'])}", abs(rng.normal(0, 0.14)))
        # soft parts differ between women and men beyond the macro shapes
        add("eyebrows/eyebrows-trans-up", u(0.05, 0.4) if female else u(0, 0.25))
        if female:
            add("chin/chin-width-decr", u(0, 0.4))
            add("mouth/mouth-upperlip-volume-incr", u(0, 0.35))
            add("nose/nose-scale-horiz-decr", u(0, 0.25))
        return targets

    def _skin(self, rng: np.random.Generator, ethnicity: str, gender: str, age: int) -> Skin:
        u = rng.uniform
        aged = float(np.clip((age - 38) / 40, 0, 1))
        if ethnicity == "South Asian":
            races = {"caucasian": u(0.3, 0.55), "asian": u(0.1, 0.3), "african": u(0.25, 0.5)}
        else:
            races = {_MAIN_RACE[ethnicity]: 1.0}
            if rng.random() < 0.4 and ethnicity != "African":
                races[str(rng.choice(["caucasian", "asian"]))] = u(0.1, 0.5)
        young, old = float(np.interp(age, [27, 46], [1, 0])), float(np.interp(age, [50, 70], [0, 1]))
        ages = {"young": young, "old": old, "middleage": max(0.0, 1 - young - old)}
        textures = []
        for race, share in races.items():
            for name, weight in ages.items():
                files = self._assets.skins.get((name, race, gender), [])
                if share * weight > 0.02 and files:
                    textures.append(((name, race, gender), int(rng.integers(len(files))), share * weight))
        if not textures:
            textures = [(next(iter(self._assets.skins)), 0, 1.0)]
        total = sum(weight for _, _, weight in textures)
        anchors = np.array(_SKIN[ethnicity], float)
        place = float(rng.beta(1.6, 1.6)) * (len(anchors) - 1)
        rgb = np.array([np.interp(place, range(len(anchors)), anchors[:, channel]) for channel in range(3)])
        rgb = (rgb * (1 + rng.normal(0, 0.013, 3) + rng.normal(0, 0.03))).clip(30, 250)
        luminance = float(rgb @ [0.299, 0.587, 0.114])
        return Skin(
            textures=tuple((key, index, weight / total) for key, index, weight in textures),
            rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
            saturation=u(0.85, 1.05),
            roughness=u(0.36, 0.52),
            gloss=u(0.5, 1.1),
            bump=float(np.interp(age, [18, 32], [0.3, 0.7])) + aged * 0.9 + u(0, 0.3),
            freckles=u(0.25, 0.6) if ethnicity == "Caucasian" and rng.random() < 0.18 else 0.0,
            mottle=u(0.2, 0.6) + 0.4 * aged,
            flush=u(0.1, 0.9),
            wrinkles=aged * u(0.5, 1.0),
            word=next(word for bound, word in _SKIN_WORDS if luminance * 0.85 >= bound),
        )


def check_cell(cell: Cell) -> None:
    """Raises UsageError where there are no shapes and skins for the cell's categories."""
    for what, name, known in (
        ("ethnicity", cell.ethnicity, DEFAULT_ETHNICITIES),
        ("gender", cell.gender, DEFAULT_GENDERS),
    ):
        if name not in known:
            raise UsageError(
                f"The 3D head has no shapes for the {what} {name!r}.", hint=registry.suggest(name, known, "It knows")
            )


def _races(rng: np.random.Generator, ethnicity: str) -> dict[str, float]:
    u = rng.uniform
    if ethnicity == "South Asian":
        races = {"caucasian": u(0.50, 0.72), "african": u(0.12, 0.28), "asian": u(0.10, 0.22)}
    else:
        races = {race: u(0, 0.09) for race in ("african", "asian", "caucasian")}
        races[_MAIN_RACE[ethnicity]] = u(0.95, 1.15)
    total = sum(races.values())
    return {race: share / total for race, share in races.items()}


def _normal(rng: np.random.Generator, spread: float, limit: float) -> float:
    return float(np.clip(rng.normal(0, spread), -limit, limit))
