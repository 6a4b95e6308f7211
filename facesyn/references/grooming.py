"""What people change about themselves, from hair to hats. Part of a style, sampled apart from identity."""

from dataclasses import dataclass, replace

import numpy as np

Rgb = tuple[float, float, float]
"""sRGB, 0 to 255."""

HAIR_RGB: dict[str, Rgb] = {
    "black": (24, 20, 19),
    "dark brown": (52, 35, 26),
    "brown": (88, 58, 38),
    "light brown": (130, 94, 62),
    "blond": (190, 152, 100),
    "red": (142, 66, 34),
    "grey": (140, 138, 136),
    "white": (208, 206, 202),
}
_HAIR_COLOURS = {
    "African": {"black": 0.86, "dark brown": 0.14},
    "East Asian": {"black": 0.82, "dark brown": 0.16, "brown": 0.02},
    "South Asian": {"black": 0.76, "dark brown": 0.22, "brown": 0.02},
    "Caucasian": {"black": 0.10, "dark brown": 0.27, "brown": 0.25, "light brown": 0.15, "blond": 0.16, "red": 0.07},
}
CUT_WORDS = {
    "afro01": "afro",
    "bob01": "chin-length bob with a long side fringe",
    "bob02": "shoulder-length bob with a side fringe",
    "braid01": "side-swept braided",
    "long01": "long straight",
    "ponytail01": "ponytail",
    "short01": "short tousled",
    "short02": "short straight fringed",
    "short03": "short side-swept",
    "short04": "short slicked-back",
    "buzz": "buzz cut",
    "crop": "cropped curly",
    "bald": "bald",
    "shaved": "shaved",
    "receding": "receding",
}
"""Meshes of the asset folder by name, and cuts that need none."""
_FEMALE = {
    "bob01": 0.09,
    "bob02": 0.15,
    "braid01": 0.15,
    "long01": 0.25,
    "ponytail01": 0.20,
    "short02": 0.10,
    "short03": 0.06,
    "short04": 0.06,
    "afro01": 0.0,
    "crop": 0.02,
}
_FEMALE_AFRICAN = {"afro01": 0.28, "crop": 0.16, "long01": 0.14, "bob02": 0.08, "short02": 0.03}
_MALE = {
    "short01": 0.25,
    "short02": 0.12,
    "short03": 0.10,
    "short04": 0.22,
    "buzz": 0.16,
    "ponytail01": 0.02,
    "long01": 0.02,
    "bald": 0.02,
    "receding": 0.02,
}
_MALE_AFRICAN = {
    "afro01": 0.16,
    "buzz": 0.42,
    "crop": 0.2,
    "short01": 0.05,
    "short02": 0.01,
    "short03": 0.01,
    "short04": 0.06,
}


@dataclass(frozen=True)
class Fur:
    """Short hair as a soft shell over the skin: `length` in decimetres, `density` in [0, 1]."""

    length: float
    density: float


@dataclass(frozen=True)
class Hair:
    """`mesh` is a name of the asset folder or None; `hairline` > 0 starts that much further back."""

    cut: str
    colour: str
    rgb: Rgb
    mesh: str | None = None
    mirrored: bool = False
    gloss: float = 0.5
    detail: float = 0.7
    widen: float = 1.03
    lengthen: float = 1.0
    scalp: float = 0.85
    hairline: float | None = None
    fur: Fur | None = None

    @property
    def phrase(self) -> str:
        """As captions say it."""
        words = CUT_WORDS.get(self.cut, self.cut)
        if self.cut in ("bald", "shaved"):
            return f"{words} head"
        return (
            f"{self.colour} {words}" if self.cut in ("buzz", "ponytail01", "afro01") else f"{words} {self.colour} hair"
        )


@dataclass(frozen=True)
class Beard:
    """Facial hair, in the colour of the hair times `shade`; `word` is `none` for women."""

    word: str
    stubble: float = 0.0
    shade: float = 0.9
    fur: Fur | None = None


@dataclass(frozen=True)
class MakeUp:
    """`lip_tint` multiplies the lips' colour, by `lip_amount`; `shine` scales the skin's highlights."""

    lipstick: bool
    lip_tint: Rgb
    lip_amount: float
    shine: float


@dataclass(frozen=True)
class Glasses:
    """Sizes in decimetres; `corner` 2 is round, larger is squarer; `tint` is how much light the lenses keep."""

    word: str
    width: float
    height: float
    corner: float
    rim: float
    rgb: Rgb
    tint: Rgb
    lens_opacity: float


@dataclass(frozen=True)
class Hat:
    """Sizes in decimetres: `rise` of the rim over its usual place, `loose` room over the skull, length of the `brim`.

    `accent` is the colour of the brim, or of the cuff where there is none.
    """

    word: str
    rgb: Rgb
    accent: Rgb
    rise: float
    loose: float
    brim: float


def pick(rng: np.random.Generator, table: dict[str, float]) -> str:
    """A key, with probability in proportion to its value."""
    weights = np.array(list(table.values()), float)
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


def blend(first: Rgb, second: Rgb, amount: float) -> Rgb:
    r, g, b = (a * (1 - amount) + c * amount for a, c in zip(first, second, strict=True))
    return r, g, b


def sample_hair(rng: np.random.Generator, ethnicity: str, gender: str, age: int, meshes: list[str]) -> Hair:
    """A hair cut and colour plausible for a person so described; `meshes` are the cuts the assets have."""
    u = rng.uniform
    grey = float(np.clip((age - 42) / 34 + rng.normal(0, 0.22), 0, 1)) if age > 36 else 0.0
    if gender == "female" and rng.random() < 0.45:
        grey *= 0.25  # dyed
    natural = pick(rng, _HAIR_COLOURS.get(ethnicity, _HAIR_COLOURS["Caucasian"]))
    old = "white" if age > 66 and rng.random() < 0.5 else "grey"
    shade = u(0.86, 1.14)
    r, g, b = (channel * shade for channel in blend(HAIR_RGB[natural], HAIR_RGB[old], grey))
    colour = old if grey > 0.75 else f"greying {natural}" if grey > 0.4 else natural
    cut = pick(rng, _cuts(ethnicity, gender, age, meshes))
    african = ethnicity == "African"
    hair = Hair(
        cut,
        colour,
        (r, g, b),
        gloss=u(0.4, 1.1) * (0.4 if african else 1),
        detail=u(0.6, 0.95) * (1 - 0.5 * (r + g + b) / 765),
        widen=u(1.015, 1.065),
        lengthen=u(0.94, 1.08),
    )
    if cut in meshes:
        return replace(hair, mesh=cut, mirrored=bool(rng.random() < 0.5))
    if cut == "buzz":
        return replace(hair, fur=Fur(u(0.02, 0.06), u(0.8, 0.98)))
    if cut == "crop":
        return replace(hair, fur=Fur(u(0.10, 0.24), u(0.88, 0.99)))
    if cut == "receding":
        return replace(hair, scalp=0.12, hairline=u(-0.08, 0.28), fur=Fur(u(0.04, 0.11), u(0.75, 0.95)))
    if rng.random() < 0.3:
        return replace(hair, cut="shaved", scalp=u(0.3, 0.5))
    return replace(hair, scalp=u(0, 0.25))


def _cuts(ethnicity: str, gender: str, age: int, meshes: list[str]) -> dict[str, float]:
    african = ethnicity == "African"
    if gender == "female":
        table = _FEMALE | (_FEMALE_AFRICAN if african else {})
        if age > 58:
            table |= {"long01": table["long01"] * 0.4, "short02": 0.24, "short04": 0.14}
    else:
        table = _MALE | (_MALE_AFRICAN if african else {})
        if age >= 45:
            table |= {"bald": 0.12, "receding": 0.22}
        if age >= 60:
            table |= {"bald": 0.18, "receding": 0.40, "short03": 0.03, "short02": 0.06}
    meshless = ("buzz", "crop", "bald", "receding")
    kept = {cut: weight for cut, weight in table.items() if cut in meshes or cut in meshless}
    return kept if sum(kept.values()) > 0 else {"crop": 1.0}


def sample_beard(rng: np.random.Generator, ethnicity: str, gender: str) -> Beard:
    u, r, shade = rng.uniform, rng.random(), rng.uniform(0.8, 1.0)
    if gender == "female":
        return Beard("none")
    dense = 0.6 if ethnicity == "East Asian" else 1.0
    if r < 0.42:
        return Beard("clean-shaven", stubble=u(0.05, 0.3) * dense, shade=shade)
    if r < 0.72 * (1 if dense == 1 else 0.9):
        return Beard("stubble", stubble=u(0.35, 0.75) * dense, shade=shade)
    if r < 0.72 + 0.28 * dense:
        length = u(0.02, 0.10)
        word = "short beard" if length < 0.06 else "full beard"
        return Beard(word, stubble=0.92 * dense, shade=shade, fur=Fur(length, u(0.65, 0.95) * dense))
    return Beard("clean-shaven", stubble=0.15, shade=shade)


def sample_make_up(rng: np.random.Generator, gender: str, age: int) -> MakeUp:
    u = rng.uniform
    lipstick = bool(gender == "female" and rng.random() < (0.45 if age < 60 else 0.3))
    if lipstick:
        return MakeUp(True, (1.0, u(0.32, 0.55), u(0.34, 0.58)), u(0.55, 0.85), u(0.4, 1.2))
    return MakeUp(False, (1.0, u(0.62, 0.72), u(0.58, 0.68)), u(0.15, 0.35), u(0.4, 1.2))


def sample_glasses(rng: np.random.Generator) -> Glasses | None:
    """Nothing for most, spectacles for some, sunglasses for few."""
    u, r = rng.uniform, rng.random()
    if r < 0.8:
        return None
    dark = r > 0.95
    frame: Rgb = (u(12, 60),) * 3 if rng.random() < 0.6 else (u(60, 170), u(35, 110), u(15, 70))
    metal = not dark and rng.random() < 0.4
    if metal:
        frame = (u(120, 190), u(110, 170), u(90, 160))
    keep = u(0.03, 0.2) if dark else 1.0
    return Glasses(
        word="sunglasses" if dark else "glasses",
        width=u(0.44, 0.54),
        height=u(0.28, 0.42),
        corner=float(rng.choice([2.0, 2.8, 4.0])),
        rim=u(0.012, 0.02) if metal else u(0.024, 0.045),
        rgb=frame,
        tint=(keep, keep * u(0.9, 1.0), keep * u(0.7, 1.0)),
        lens_opacity=u(0.85, 0.97) if dark else 0.06,
    )


def sample_hat(rng: np.random.Generator) -> Hat | None:
    """Nothing for most, a beanie or a cap for some."""
    u = rng.uniform
    if rng.random() < 0.92:
        return None
    grey, hue = u(15, 120), u(0, 2 * np.pi)
    r, g, b = (grey * (1 + u(0, 0.7) * np.cos(hue + np.array([0.0, 2.1, 4.2])))).clip(8, 235).tolist()
    rgb: Rgb = (r, g, b)
    accent = rgb if rng.random() < 0.6 else blend(rgb, (225, 222, 215), u(0.3, 0.9))
    if rng.random() < 0.5:
        return Hat("beanie", rgb, accent, rise=u(-0.08, 0.06), loose=u(0.02, 0.3), brim=0.0)
    return Hat("cap", rgb, accent, rise=u(-0.02, 0.08), loose=u(0.06, 0.14), brim=u(0.55, 0.7))
