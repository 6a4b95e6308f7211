"""Figures about prompts that are written: how varied they are, and what was rejected on the way. Changes nothing."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from facesyn.demographics import Cell
from facesyn.out import out
from facesyn.prompting.duplicates import NEAR, Said
from facesyn.prompting.formulation import Formulation
from facesyn.prompting.screening import REASONS, Screen
from facesyn.records import PromptRow


@dataclass(frozen=True)
class CellFigures:
    """About the prompts of one cell, or of all.

    distinct_1, distinct_2: different words and word pairs as shares of all (Li et al., "A Diversity-Promoting Objective
    Function for Neural Conversation Models", 2016); they fall as the number of prompts grows.
    entropy: of the words drawn, in bits, the mean over attributes.
    near: prompts with a likeness of `NEAR` or more to an earlier one of the cell.
    screened: prompts that the screen would reject as they stand, by reason; rejected: what was on the way.
    """

    prompts: int
    by_model: int
    vocabulary: int
    distinct_1: float
    distinct_2: float
    entropy: float
    duplicates: int
    near: int
    screened: Counter[str]
    rejected: Counter[str]


def measure(rows: Sequence[PromptRow], screen: Screen) -> CellFigures:
    """The figures of those rows, from whatever backend; what a backend does not say counts as nothing."""
    texts = [re.findall(r"[\w'’-]+", row.prompt.lower()) for row in rows]
    words = [word for text in texts for word in text]
    pairs = [pair for text in texts for pair in zip(text, text[1:], strict=False)]
    said: dict[Cell, Said] = {}
    duplicates = near = 0
    screened: Counter[str] = Counter()
    for row in rows:
        before = said.setdefault(row.cell, Said())
        duplicates += before.repeats(row.prompt)
        near += before.likeness(row.prompt) >= NEAR
        before.add(row.prompt)
        if rejection := screen.reject(row.prompt, row.cell):
            screened[rejection.reason] += 1
    how = [_extra(row, "formulation") for row in rows]
    rejected: Counter[str] = Counter()
    for each in how:
        for rejection in each.get("rejected", ()):
            rejected[rejection["reason"]] += rejection.get("times", 1)
    return CellFigures(
        prompts=len(rows),
        by_model=sum(each.get("sentence_by") == "model" for each in how),
        vocabulary=len(set(words)),
        distinct_1=len(set(words)) / max(1, len(words)),
        distinct_2=len(set(pairs)) / max(1, len(pairs)),
        entropy=_mean(entropies(rows).values()),
        duplicates=duplicates,
        near=near,
        screened=screened,
        rejected=rejected,
    )


def entropies(rows: Iterable[PromptRow]) -> dict[str, float]:
    """Attribute → Shannon entropy of its words in bits, "absent" being one; cell and age are left out."""
    drawn = [_extra(row, "attributes") for row in rows]
    names = dict.fromkeys(name for each in drawn for name in each if name not in ("ethnicity", "gender", "age"))
    return {name: _entropy(Counter(str(each.get(name)) for each in drawn)) for name in names}


def print_report(rows: Sequence[PromptRow], formulation: Formulation, stream: TextIO) -> None:
    """Tables for people: a line per cell and one for all; a line per attribute; what was rejected."""
    cells: dict[Cell, list[PromptRow]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    screen = Screen(formulation, cells)
    varied = ("words", "distinct-1", "distinct-2", "entropy")
    columns = ("cell", "prompts", "by model", *varied, "duplicates", "near", "screened", "rejected")
    measured = {str(cell): measure(members, screen) for cell, members in sorted(cells.items())}
    measured["all"] = everything = measure(rows, screen)
    out.table(columns, [_line(name, figures) for name, figures in measured.items()], stream)
    print(file=stream)
    out.table(("attribute", "words", "entropy", "most frequent"), _attribute_lines(rows), stream)
    print(file=stream)
    reasons = [(reason, everything.rejected[reason]) for reason in REASONS if everything.rejected[reason]]
    out.table(("rejected for", "times"), reasons or [("nothing", 0)], stream)


def _line(name: str, figures: CellFigures) -> tuple[object, ...]:
    return (
        name,
        figures.prompts,
        figures.by_model,
        figures.vocabulary,
        f"{figures.distinct_1:.3f}",
        f"{figures.distinct_2:.3f}",
        f"{figures.entropy:.2f}",
        figures.duplicates,
        figures.near,
        _said(figures.screened),
        _said(figures.rejected),
    )


def _attribute_lines(rows: Sequence[PromptRow]) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for name, entropy in entropies(rows).items():
        counted = Counter(str(_extra(row, "attributes").get(name)) for row in rows)
        word, times = counted.most_common(1)[0]
        word = "absent" if word == "None" else word
        lines.append(
            (name, len(counted - Counter({"None": len(rows)})), f"{entropy:.2f}", f"{word} ({times / len(rows):.0%})")
        )
    return lines


def _extra(row: PromptRow, key: str) -> dict[str, Any]:
    value = (row.model_extra or {}).get(key)
    return value if isinstance(value, dict) else {}


def _entropy(counted: Counter[str]) -> float:
    total = counted.total()
    return -sum(count / total * math.log2(count / total) for count in counted.values()) + 0.0


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _said(counted: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counted.most_common()) or "0"
