"""Formulates prompts: draws attributes from weighted vocabularies and says them through Jinja templates.

Both lie in a folder that anyone may edit. The same sentences caption training pictures. Knows nothing of
rows, ids or files to write.

An attribute dictionary has `ethnicity`, `gender` and `age` (years), and may have face_shape, build, skin,
hair_style, hair_color, facial_hair, eye_color, eyebrows, nose, lips, lipstick (bool), freckles (bool), and
what else a vocabulary adds.
"""

import os
import random
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from facesyn.demographics import AgeInterval, Cell
from facesyn.errors import FacesynError, UsageError
from facesyn.registry import suggest

Attributes = Mapping[str, Any]

ATTRIBUTES = (
    "ethnicity",
    "gender",
    "age",
    "face_shape",
    "build",
    "skin",
    "hair_style",
    "hair_color",
    "hair_greying",
    "facial_hair",
    "eye_color",
    "eyebrows",
    "nose",
    "lips",
    "lipstick",
    "freckles",
)
"""Names the templates may always use; one that is absent or "none" is empty there."""

NOUNS = {"female": "woman", "male": "man"}
POSSESSIVES = {"female": "her", "male": "his"}
DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")
"""From age 20."""

_CONDITIONS = ("ethnicity", "gender", "age")
_OWN = Path(str(resources.files("facesyn_prompts")))
_AN = re.compile(r"(?:[aeiou]|8|1[18]\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Weighted words, for the people its conditions hold for."""

    words: Mapping[str, float]
    ethnicities: frozenset[str] | None
    genders: frozenset[str] | None
    ages: tuple[AgeInterval, ...] | None
    replace: bool

    def holds(self, ethnicity: str, gender: str, age: int) -> bool:
        return (
            (self.ethnicities is None or ethnicity in self.ethnicities)
            and (self.genders is None or gender in self.genders)
            and (self.ages is None or any(age in interval for interval in self.ages))
        )


@dataclass(frozen=True)
class Vocabulary:
    """The tables of one attribute, read from top to bottom."""

    name: str
    tables: tuple[Table, ...]

    def weights(self, ethnicity: str, gender: str, age: int) -> dict[str, float]:
        """Word → weight: a table that holds changes the words it names, or all of them where it replaces."""
        weights: dict[str, float] = {}
        for table in self.tables:
            if table.holds(ethnicity, gender, age):
                weights = {**({} if table.replace else weights), **table.words}
        return {word: weight for word, weight in weights.items() if weight > 0}

    def draw(self, ethnicity: str, gender: str, age: int, rng: random.Random) -> str | None:
        """A word, or None where no word has weight."""
        weights = self.weights(ethnicity, gender, age)
        return rng.choices(list(weights), list(weights.values()))[0] if weights else None


class Formulation:
    """The vocabularies and templates of one folder. Raises UsageError naming the file it cannot read."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.vocabularies = tuple(
            _read_vocabulary(file) for file in _files(folder / "vocabularies", ".toml", "vocabularies")
        )
        _files(folder / "templates", ".j2", "templates")
        environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader([folder / "templates", folder / "requests", _OWN / "requests"]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )
        environment.filters["with_article"] = with_article
        self._environment = environment
        phrasings = folder / "templates" / "phrasings.j2"
        self._phrasings = [
            self._compile(f"{{% import 'phrases.j2' as say with context %}}{line}", phrasings)
            for line in _lines(phrasings)
        ]
        if not self._phrasings:
            raise UsageError(f"{phrasings} holds no phrasing.", hint="Write one phrasing per line.")
        negative = folder / "templates" / "negative.j2"
        self._negative = self._compile(" ".join(_lines(negative)), negative)

    def sample_attributes(self, cell: Cell, rng: random.Random) -> dict[str, Any]:
        """The attributes of one person of that cell; the age is uniform in the cell's interval."""
        age = rng.randint(cell.age_interval.low, cell.age_interval.high)
        drawn: dict[str, Any] = {"ethnicity": cell.ethnicity, "gender": cell.gender, "age": age}
        for vocabulary in self.vocabularies:
            word = vocabulary.draw(cell.ethnicity, cell.gender, age, rng)
            if word is not None and word != "none":
                drawn[vocabulary.name] = {"yes": True, "no": False}.get(word, word)
        greying = drawn.pop("hair_greying", "natural")
        if "hair_color" in drawn or greying != "natural":
            drawn["hair_color"] = _greyed(drawn.get("hair_color", ""), greying)
        return drawn

    def choices(self, cell: Cell) -> dict[str, list[str]]:
        """Attribute → the words that `sample_attributes` may draw for that cell, `none`, `yes` and `no` among them."""
        found = {vocabulary.name: _words_of(vocabulary, cell) for vocabulary in self.vocabularies}
        greyings = found.pop("hair_greying", ["natural"])
        if "hair_color" in found:
            colors = [_greyed(color, greying) for greying in greyings for color in found["hair_color"]]
            found["hair_color"] = list(dict.fromkeys(colors))
        return {name: words for name, words in found.items() if words}

    def vocabulary_words(self) -> dict[str, frozenset[str]]:
        """Attribute → every word of its vocabulary, whoever it is for."""
        return {
            vocabulary.name: frozenset(word for table in vocabulary.tables for word in table.words)
            for vocabulary in self.vocabularies
        }

    def template_words(self) -> frozenset[str]:
        """Every word that a template's text or a vocabulary holds, in lower case."""
        text = " ".join(
            file.read_text(encoding="utf-8") for file in _files(self.folder / "templates", ".j2", "templates")
        )
        said = [text, *(word for words in self.vocabulary_words().values() for word in words)]
        return frozenset(re.findall(r"[a-z]+", " ".join(said).lower()))

    def render_request(self, name: str, **names: Any) -> str:
        """The template `name` of `requests/`, of facesyn's own where the folder has none."""
        try:
            return self._environment.get_template(name).render(names).strip()
        except jinja2.TemplateError as error:
            raise UsageError(f"{name} in {self.folder / 'requests'} cannot be filled in: {error.message}") from error

    def read_file(self, name: str) -> tuple[Path, str]:
        """A file of the folder, or facesyn's own of that name where the folder has none, and its text."""
        file = self.folder / name if (self.folder / name).exists() else _OWN / name
        try:
            return file, file.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"Cannot read {file}: {error.strerror}.") from None

    def render_prompt(self, attributes: Attributes, rng: random.Random) -> str:
        """One sentence that says all of `attributes`, in one of the phrasings."""
        return self._render(rng.choice(self._phrasings), attributes)

    def negative_prompt(self, attributes: Attributes) -> str:
        """What the picture of that person must not show."""
        return self._render(self._negative, attributes)

    def _compile(self, source: str, file: Path) -> jinja2.Template:
        try:
            return self._environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise UsageError(f"{file} is not a valid template: {error.message}") from error

    def _render(self, template: jinja2.Template, attributes: Attributes) -> str:
        for name in _CONDITIONS:
            if name not in attributes:
                raise UsageError(f"A prompt needs the attribute {name!r}.")
        gender, age = attributes["gender"], int(attributes["age"])
        said = {name: None if value == "none" else value for name, value in attributes.items()}
        known = {**dict.fromkeys([*ATTRIBUTES, *(each.name for each in self.vocabularies)]), **said}
        words = {"noun": NOUNS.get(gender, "person"), "possessive": POSSESSIVES.get(gender, "their")}
        try:
            text = template.render(known, **words, decade=_decade(age))
        except jinja2.TemplateError as error:
            raise UsageError(f"The templates in {self.folder} cannot be filled in: {error.message}") from error
        return re.sub(r"\s+([,.])", r"\1", " ".join(text.split()))


def load(folder: Path | None = None) -> Formulation:
    """The formulation in `folder`; without one, in $FACESYN_PROMPTS; without either, facesyn's own."""
    return _cached(Path(folder or os.environ.get("FACESYN_PROMPTS") or _OWN))


_cached = lru_cache(maxsize=8)(Formulation)


def with_article(phrase: str) -> str:
    """`oval face` → `an oval face`, `34 year old` → `a 34 year old`, `80 year old` → `an 80 year old`."""
    return f"{'an' if _AN.match(phrase) else 'a'} {phrase}"


def _decade(age: int) -> str | None:
    """34 → `thirties`; None where the word would mislead."""
    return DECADES[age // 10 - 2] if 20 <= age < 100 else None


def _greyed(color: str, greying: str) -> str:
    """What age makes of a hair colour: `brown` → `brown`, `greying brown`, or `grey` and `white` in its place."""
    return {"natural": color, "greying": f"greying {color}".strip()}.get(greying, greying)


def _words_of(vocabulary: Vocabulary, cell: Cell) -> list[str]:
    ages = range(cell.age_interval.low, cell.age_interval.high + 1)
    return list(dict.fromkeys(word for age in ages for word in vocabulary.weights(cell.ethnicity, cell.gender, age)))


def _files(folder: Path, suffix: str, what: str) -> list[Path]:
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix == suffix)
    except OSError as error:
        raise UsageError(
            f"Cannot read the {what} in {folder}: {error.strerror}.",
            hint="A prompts folder holds templates/ and vocabularies/; start from a copy of facesyn's own.",
        ) from None
    if not found:
        raise UsageError(f"There is no {suffix} file in {folder}.")
    return found


def _lines(file: Path) -> list[str]:
    """The lines of a template file, without comments (`{# … #}` lines) and blank ones."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from None
    return [line for line in map(str.strip, lines) if line and not line.startswith("{#")]


def _read_vocabulary(file: Path) -> Vocabulary:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        _only(content, ("table",), "vocabulary")
        tables = tuple(map(_read_table, content.get("table", ())))
        if not tables:
            raise UsageError("it holds no [[table]]")
        return Vocabulary(file.stem, tables)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, FacesynError) as error:
        raise UsageError(f"{file}: {error}", hint=getattr(error, "hint", None)) from None


def _read_table(content: Mapping[str, Any]) -> Table:
    _only(content, ("words", "when", "replace"), "table")
    words, when = content.get("words", {}), content.get("when", {})
    if not isinstance(words, dict) or not isinstance(when, dict):
        raise UsageError("words and when are tables, such as { oval = 2, round = 1 }")
    for word, weight in words.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise UsageError(f"the weight of {word!r} is {weight!r}, not a number of 0 or more")
    _only(when, _CONDITIONS, "condition")
    ages = _words(when.get("age"))
    return Table(
        words=words,
        ethnicities=_words(when.get("ethnicity")),
        genders=_words(when.get("gender")),
        ages=None if ages is None else tuple(map(AgeInterval.parse, sorted(ages))),
        replace=bool(content.get("replace", False)),
    )


def _words(value: Any) -> frozenset[str] | None:
    """A condition names one word or a list of them."""
    if value is None:
        return None
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise UsageError(f"{value!r} is neither a word nor a list of words")
    return frozenset(listed)


def _only(content: Iterable[str], known: tuple[str, ...], what: str) -> None:
    for key in content:
        if key not in known:
            raise UsageError(f"{key!r} is no part of a {what}", hint=suggest(key, known, "Known"))
