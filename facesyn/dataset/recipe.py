"""Recipes: what a dataset is made of, read from TOML and checked. Opens no bank or model."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from facesyn import demographics, registry
from facesyn.demographics import AgeInterval, Demographics
from facesyn.errors import UsageError
from facesyn.gates.settings import GateSettings
from facesyn.records import Seed

Positive = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LongTail(_Table):
    """Image counts that fall as rank ** -exponent, none under `minimum`, `total` altogether."""

    total: Positive
    minimum: Positive = 1
    exponent: Annotated[float, Field(ge=0, le=10)] = 1.0


class DemographicsTable(_Table):
    ethnicities: list[str] = list(demographics.DEFAULT_ETHNICITIES)
    genders: list[str] = list(demographics.DEFAULT_GENDERS)
    age_intervals: list[str] = list(demographics.DEFAULT_AGE_INTERVALS)
    weights: dict[str, float] = {}

    @property
    def categories(self) -> dict[str, list[str]]:
        """What a classifier is asked about."""
        return {
            "ethnicities": self.ethnicities,
            "genders": self.genders,
            "age_intervals": self.age_intervals,
        }

    def to_demographics(self) -> Demographics:
        """Raises UsageError for what `Demographics` does not allow."""
        return Demographics(
            tuple(self.ethnicities),
            tuple(self.genders),
            tuple(map(AgeInterval.parse, self.age_intervals)),
            tuple(self.weights.items()),
        )


class _Backend(_Table):
    """A backend and its options: every key that is no field of the table is an option of the backend."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    backend: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class PromptsTable(_Backend):
    backend: str = "template"


class GenerateTable(_Backend):
    backend: str = "auto"
    edges: str = "mini"
    """A model bundle that ships edge maps, or a folder of pictures."""


class TransferTable(_Backend):
    backend: str = "auto"
    references: str = "mini"
    """A model bundle that ships style references, or a folder of pictures."""
    strata: list[str] = []
    """Labels of the references: each person gets every combination that there is as often, or by `quotas`."""
    quotas: dict[str, dict[str, float]] = {}
    """Label → category → how much of it relative to the label's others; see `facesyn.strata`."""


class EncoderTable(_Backend):
    backend: str = ""
    """Empty: no similarities are measured."""


class OutputTable(_Table):
    aligned: bool = False
    """Whether to write each image once more, 112 × 112, by ArcFace's five-point template."""
    landmarker: str = "mini"
    """The model bundle or folder whose landmarker finds the five points."""


def _kind_of_images(value: Any) -> Literal["count", "long tail"]:
    return "long tail" if isinstance(value, dict | LongTail) else "count"


Images = Annotated[
    Annotated[Positive, Tag("count")] | Annotated[LongTail, Tag("long tail")], Discriminator(_kind_of_images)
]


class Recipe(_Table):
    """A dataset: how many people, how many images of each, and which backends make them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    seed: Seed = 0
    identities: Positive
    images: Images
    """Transferred images per identity; the source is kept beside and not counted."""
    shard_size: Positive = 4
    """Identities worked on, written and resumed as one."""
    batch_size: Positive = 8
    extended_from: list[Annotated[list[Positive], Field(min_length=2, max_length=2)]] = []
    """The numbers of identities and of images that the dataset had before each extension; see `extended`."""
    demographics: DemographicsTable = DemographicsTable()
    prompts: PromptsTable = PromptsTable()
    generate: GenerateTable = GenerateTable()
    transfer: TransferTable = TransferTable()
    encoder: EncoderTable = EncoderTable()
    gates: GateSettings = GateSettings(enabled=False)
    """A recipe without the table has no gates; one with it has all that it does not switch off."""
    output: OutputTable = OutputTable()

    @property
    def image_total(self) -> int:
        return self.images.total if isinstance(self.images, LongTail) else self.images * self.identities

    def scaled(self, identities: int | None = None, images: int | None = None, seed: int | None = None) -> "Recipe":
        """The recipe with other numbers. Of a long tail, `images` is the mean per identity."""
        count = self.identities if identities is None else identities
        per_identity: int | LongTail = self.images if images is None else images
        if isinstance(self.images, LongTail):
            total = round(self.image_total * count / self.identities) if images is None else images * count
            per_identity = self.images.model_copy(update={"total": total})
        return self._changed(
            identities=count,
            images=per_identity.model_dump() if isinstance(per_identity, LongTail) else per_identity,
            seed=self.seed if seed is None else seed,
        )

    def with_banks(self, references: str | None = None, edges: str | None = None) -> "Recipe":
        """The recipe with other style references or edge maps: a folder of pictures, or a bundle that ships them."""
        transfer = self.transfer if references is None else self.transfer.model_copy(update={"references": references})
        generate = self.generate if edges is None else self.generate.model_copy(update={"edges": edges})
        return self.model_copy(update={"transfer": transfer, "generate": generate})

    def extended(self, identities: int) -> "Recipe":
        """The recipe of the same dataset with more people, `identities` altogether, and as many images of each.

        The plan of those it had stays as it was.
        """
        larger = self.scaled(identities)
        before = [*self.extended_from, [self.identities, self.image_total]]
        return larger._changed(extended_from=before)

    def _changed(self, **values: Any) -> "Recipe":
        return _validated(self.model_dump() | values, f"Recipe {self.name}")


def built_in() -> list[str]:
    """Names of the recipes that come with facesyn."""
    files = resources.files("facesyn.dataset") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in files.iterdir() if file.name.endswith(".toml"))


def built_in_text(name: str) -> str:
    """The TOML of a built-in recipe. Raises UsageError where there is none of that name."""
    if name not in built_in():
        raise UsageError(
            f"There is no built-in recipe {name!r}.", hint=registry.suggest(name, built_in(), "Built-in recipes")
        )
    return (resources.files("facesyn.dataset") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def description(name: str) -> str:
    """What a built-in recipe says of itself in its first line."""
    return built_in_text(name).partition("\n")[0].removeprefix("# ")


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or one from a TOML file. Raises UsageError naming file and key."""
    if name in built_in():
        text = built_in_text(name)
    elif Path(name).is_file():
        text = _read(Path(name))
    else:
        raise UsageError(
            f"There is no recipe {name!r}: no file, and none of the built-in ones.",
            hint=registry.suggest(name, built_in(), "Built-in recipes"),
        )
    return parse_recipe(text, name)


def parse_recipe(text: str, name: str) -> Recipe:
    """The recipe in TOML `text`; `name` is the file to blame in the UsageError for a mistake."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not valid TOML: {error}.") from None
    return _validated(values, name)


def format_recipe(recipe: Recipe) -> str:
    """The recipe as TOML with every key, in fixed order; `parse_recipe` reads the same recipe back."""
    values = recipe.model_dump()
    top = [f"{key} = {_toml(value)}" for key, value in values.items() if key in _TOP_LEVEL]
    tables = [
        "\n".join([f"\n[{key}]", *(f"{_toml_key(name)} = {_toml(item)}" for name, item in table.items())])
        for key, table in values.items()
        if key not in _TOP_LEVEL
    ]
    return "\n".join([*top, *tables]) + "\n"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Dotted names of the keys whose values differ between two nested tables, in sorted order."""
    first, second = dict(_flat(before)), dict(_flat(after))
    missing = object()
    return sorted(key for key in first | second if first.get(key, missing) != second.get(key, missing))


_TOP_LEVEL = ("name", "seed", "identities", "images", "shard_size", "batch_size", "extended_from")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot read recipe {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"Recipe {path} is not UTF-8 text.") from None


def _validated(values: Mapping[str, Any], name: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _usage_error(error, name) from None
    try:
        recipe.demographics.to_demographics()
    except UsageError as error:
        raise UsageError(f"{name}, [demographics]: {error}", hint=error.hint) from None
    images = recipe.images
    if isinstance(images, LongTail) and images.total < images.minimum * recipe.identities:
        raise UsageError(
            f"{name}: images.total is {images.total}, too few for {recipe.identities} identities "
            f"with {images.minimum} images or more each."
        )
    sizes = [*recipe.extended_from, [recipe.identities, recipe.image_total]]
    if any(before >= after for earlier, later in pairwise(sizes) for before, after in zip(earlier, later, strict=True)):
        raise UsageError(f"{name}: extended_from must rise, up to fewer identities and images than there are in all.")
    return recipe


def _usage_error(error: ValidationError, name: str) -> UsageError:
    # A typo shows up twice, as an unknown key and as a missing one: speak of the unknown one.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part not in ("count", "long tail")]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return UsageError(
            f"{name} has an unknown key {key!r}.",
            hint=registry.suggest(path[-1], _keys(path[:-1]), "Keys here"),
        )
    if first["type"] == "missing":
        return UsageError(f"{name} lacks the key {key!r}.")
    return UsageError(f"{name}: {key}: {first['msg']}.")


def _keys(path: list[str]) -> list[str]:
    """The keys of the table at a path."""
    table: type[BaseModel] = LongTail if path == ["images"] else Recipe
    for part in path:
        if part in Recipe.model_fields and part != "images":
            table = cast("type[BaseModel]", Recipe.model_fields[part].annotation)
    return list(table.model_fields)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str | bool | int):
        # JSON and TOML agree on these, but for the one control character that JSON leaves bare.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    raise UsageError(f"A recipe cannot hold the value {value!r}.", hint="Values are text, numbers, true and false.")


def _toml_key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _toml(key)
