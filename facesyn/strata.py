"""Strata of a bank: its pictures by what their labels say, drawn from evenly or by quotas. Decodes no picture."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import lcm

from facesyn import registry
from facesyn.banks import BankPicture, choose
from facesyn.errors import UsageError

POSE = "pose"
POSE_STEP = 15
"""Degrees of yaw between poses; Multi-PIE's cameras stand so far apart."""

_FINENESS = 2**32

Quotas = Mapping[str, Mapping[str, float]]
"""Label → category → how much of it relative to the label's others, 1 where nothing is said."""


@dataclass(frozen=True)
class Stratum:
    """The pictures of a bank that agree in the categories of some labels."""

    categories: tuple[str, ...]
    pictures: list[BankPicture]
    weight: int
    """Its share, relative to the others of the bank."""


def stratify(bank: Sequence[BankPicture], labels: Sequence[str], quotas: Quotas) -> list[Stratum]:
    """The strata a bank offers by `labels`, sorted; those of weight 0 are left out. One of all without labels.

    `pose` is the yaw in steps of 15 degrees, as in `+30`. Raises UsageError where a picture lacks a label, a label is
    no word, or a quota speaks of what the bank does not have.
    """
    found: dict[tuple[str, ...], list[BankPicture]] = {}
    for picture in bank:
        found.setdefault(tuple(_category(picture, label) for label in labels), []).append(picture)
    for label, asked in quotas.items():
        if label not in labels:
            raise UsageError(f"Quotas for {label!r}, which is none of the strata.", hint=f"Add {label!r} to strata.")
        there = {categories[labels.index(label)] for categories in found}
        for category, weight in asked.items():
            if category not in there:
                hint = registry.suggest(category, sorted(there), "The bank has")
                raise UsageError(f"A quota for {label} {category!r}, which the bank does not have.", hint=hint)
            if not 0 <= weight < float("inf"):
                raise UsageError(f"The quota of {label} {category!r} must be a number of 0 or more, not {weight}.")
    weights = {categories: _weight(labels, categories, quotas) for categories in sorted(found)}
    if not any(weights.values()):
        raise UsageError("The quotas leave nothing of the bank.")
    whole = lcm(*(weight.denominator for weight in weights.values()))
    return [Stratum(each, found[each], int(weight * whole)) for each, weight in weights.items() if weight]


def draw(strata: Sequence[Stratum], count: int, gender: str, rng: random.Random) -> list[BankPicture]:
    """`count` pictures, of every stratum its share rounded down or up; within one as `facesyn.banks.choose`.

    Systematic sampling: the strata in random order along a line, marks on it at equal distances from a random start.
    So on average over draws each gets its exact share, however few pictures a single draw has. Strata without a picture
    labelled with the same `gender` are left out, unless there is none with one.
    """
    strata = [each for each in strata if any(p.labels.get("gender") == gender for p in each.pictures)] or strata
    if len(strata) == 1:
        return choose(strata[0].pictures, count, gender, rng)
    order = rng.sample(strata, len(strata))
    total = sum(stratum.weight for stratum in order)
    start = rng.randrange(total * _FINENESS)
    # Marks lie at start, start + total * _FINENESS, …, on a line of count times that length; in whole numbers, so that
    # equal shares come out equal.
    drawn: list[BankPicture] = []
    before = 0
    for stratum, end in zip(order, accumulate(stratum.weight for stratum in order), strict=True):
        after = -((start - end * count * _FINENESS) // (total * _FINENESS))
        if after > before:
            drawn += choose(stratum.pictures, after - before, gender, rng)
        before = after
    return drawn


def _weight(labels: Sequence[str], categories: Sequence[str], quotas: Quotas) -> Fraction:
    product = Fraction(1)
    for label, category in zip(labels, categories, strict=True):
        product *= Fraction(str(quotas.get(label, {}).get(category, 1)))
    return product


def _category(picture: BankPicture, label: str) -> str:
    value = picture.labels.get(label)
    if label == POSE and value is None:
        yaw = picture.labels.get("yaw")
        value = None if yaw is None else f"{round(float(yaw) / POSE_STEP) * POSE_STEP:+d}"
    if isinstance(value, Mapping):
        value = value.get("name")  # a rendered bank says of a light what it is called and where it comes from
    if isinstance(value, str | bool | int):
        return str(value)
    if value is None:
        raise UsageError(
            f"The bank does not say of {picture.name} what its {label!r} is, which is to be a stratum.",
            hint="Label its pictures in metadata.jsonl, or leave the label out of strata.",
        )
    raise UsageError(f"{label!r} of {picture.name} is no word, so it makes no stratum.", hint="Yaw does, as 'pose'.")
