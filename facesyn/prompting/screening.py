"""Says why a sentence may not become a prompt. Knows sentences and cells, not who wrote them; changes nothing.

The words are in `screening.toml` of the prompts folder. Every check is one of surface: words that are there, not what
they mean. What that misses is said in prompts/README.md.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from facesyn.demographics import AgeInterval, Cell
from facesyn.errors import FacesynError, UsageError
from facesyn.prompting.formulation import DECADES, Formulation

MAX_TOKENS = 77
"""What the text encoders of Stable Diffusion read, start and end of text included."""

LETTERS_PER_TOKEN = 8
"""For `estimate_tokens`: few English words need a further token before they have more letters than this."""

SAID_OF = {
    "face_shape": "face",
    "build": "build",
    "skin": "skin|complexion",
    "hair_color": "hair",
    "eye_color": "eyes",
    "eyebrows": "eyebrows|brows",
    "nose": "nose",
    "lips": "lips",
}
"""Attributes said right before a noun, so that a sentence can be held against them."""

_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d|[^\s\w]+|_+")
_AGE = re.compile(r"\b(\d{1,3})[\s-]*(?:years?|yrs?)\b|\bage[ds]?\s+(?:of\s+)?(\d{1,3})\b")
_NUMBER = re.compile(r"(?<![\w.,/-])(\d{2,3})(?![\w/-]|[.,]\d)")
_DECADE = re.compile(rf"\b(?:({'|'.join(DECADES)})|([1-9]0)s)\b")
_CAPITALISED = re.compile(r"[A-Z][\w'’]+(?:[\s-]+(?:(?:de|da|van|von|der|al|bin|el|of)\s+)?[A-Z][\w'’]+)+")
_LIKE_A_NAME = re.compile(r"\b(?:like|named|called|as|resembling|à la)\s+((?!A\b|An\b|The\b)[A-Z][\w'’]+)")


@dataclass(frozen=True)
class Rejection:
    """Why an answer was not taken: a reason of `REASONS`, and the words or figures that decided."""

    reason: str
    found: str = ""


REASONS = (
    "refused",  # the model would not answer
    "unreadable",  # no JSON of the asked form
    "missing",  # fewer descriptions than asked for, or cut off
    "attributes",  # outside the vocabularies, or at odds with the sentence
    "age",
    "gender",
    "ethnicity",
    "minor",
    "name",
    "unsafe",
    "pose",
    "people",
    "tokens",
    "duplicate",
    "near-duplicate",
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenderWords(_Table):
    words: list[str]
    traits: list[str] = []


class AgeWords(_Table):
    ages: str
    words: list[str]


class ScreenWords(_Table):
    """The content of `screening.toml`."""

    minors: list[str]
    unsafe: list[str]
    pose: list[str]
    people: list[str]
    likeness: list[str]
    names: list[str]
    not_names: list[str]
    genders: dict[str, GenderWords]
    ethnicities: dict[str, list[str]]
    ages: list[AgeWords]


def read_words(formulation: Formulation) -> ScreenWords:
    """The words of the formulation's folder, facesyn's own where it has none. Raises UsageError naming the file."""
    file, text = formulation.read_file("screening.toml")
    try:
        words = ScreenWords.model_validate(tomllib.loads(text))
        for each in words.ages:
            AgeInterval.parse(each.ages)
        return words
    except (tomllib.TOMLDecodeError, FacesynError) as error:
        raise UsageError(f"{file}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


class Screen:
    """The checks that need no other prompt; duplicates are in `facesyn.prompting.duplicates`."""

    def __init__(self, formulation: Formulation, cells: Iterable[Cell] = ()):
        """`cells` are those of the plan: what one of them is called contradicts another."""
        words = read_words(formulation)
        self._lists = [
            (reason, _phrases(found))
            for reason, found in (
                ("minor", words.minors),
                ("unsafe", words.unsafe),
                ("pose", words.pose),
                ("people", words.people),
                ("name", [*words.likeness, *words.names]),
            )
        ]
        self._genders = {gender: (each.words, each.traits) for gender, each in words.genders.items()}
        self._planned = {_plain(cell.ethnicity) for cell in cells}
        self._ethnicities = {_plain(name): [*map(_plain, also)] for name, also in words.ethnicities.items()}
        self._also = {also for each in self._ethnicities.values() for also in each}
        known = {*self._ethnicities, *self._also, *self._planned}
        self._any_ethnicity = _phrases(known)
        self._ages = [(AgeInterval.parse(each.ages), _phrases(each.words)) for each in words.ages]
        said = " ".join([*known, *words.not_names])
        self._no_names = formulation.template_words() | frozenset(re.findall(r"\w+", said.lower()))
        self._attributes = {
            name: re.compile(rf"\b({_alternatives(found)})[\s-]+(?:{SAID_OF[name]})\b")
            for name, found in formulation.vocabulary_words().items()
            if name in SAID_OF and found
        }

    def reject(
        self, sentence: str, cell: Cell, attributes: Mapping[str, Any] | None = None, *, must_say: bool = False
    ) -> Rejection | None:
        """Why `sentence` may not be a prompt for that cell, or None where it may.

        With `must_say` a sentence that leaves out age, gender or ethnicity is rejected too; without, only one that
        contradicts. `attributes` are held against the sentence where they are given.
        """
        said = sentence.lower()
        text = ", ".join([said, *(str(value).lower() for value in (attributes or {}).values())])
        for reason, pattern in self._lists:
            if found := pattern.search(text):
                return Rejection(reason, found[0])
        return (
            self._age(said, cell, must_say)
            or self._gender(said, cell, must_say)
            or self._ethnicity(said, cell, must_say)
            or self._name(sentence)
            or _length(said)
            or (self._otherwise(said, attributes) if attributes else None)
        )

    def _age(self, sentence: str, cell: Cell, must_say: bool) -> Rejection | None:
        interval = cell.age_interval
        stated = [int(years or aged) for years, aged in _AGE.findall(sentence)]
        if not stated:  # "woman, 52, with …"
            stated = [int(number) for number in _NUMBER.findall(sentence) if int(number) in interval]
        for age in stated:
            if age not in interval:
                return Rejection("age", str(age))
        ages = stated or range(interval.low, interval.high + 1)
        for name, number in _DECADE.findall(sentence):
            first = int(number) if number else 10 * (DECADES.index(name) + 2)
            if not any(age in range(first, first + 10) for age in ages):
                return Rejection("age", name or f"{number}s")
        for allowed, pattern in self._ages:
            found = pattern.search(sentence)
            if found and not any(age in allowed for age in ages):
                return Rejection("age", found[0])
        return Rejection("age", "not said") if must_say and not stated else None

    def _gender(self, sentence: str, cell: Cell, must_say: bool) -> Rejection | None:
        asked = cell.gender.lower()
        listed = [key for key, (words, _) in self._genders.items() if asked == key.lower() or asked in words]
        own = [word for key in listed for word in self._genders[key][0]] or [asked, "person", "adult"]
        for key, (words, traits) in self._genders.items():
            if key not in listed and (found := _phrases([*words, *(traits if listed else ())]).search(sentence)):
                return Rejection("gender", found[0])
        return Rejection("gender", "not said") if must_say and not _phrases(own).search(sentence) else None

    def _ethnicity(self, sentence: str, cell: Cell, must_say: bool) -> Rejection | None:
        asked = _plain(cell.ethnicity)
        also = {*self._ethnicities.get(asked, ()), *(each for each in self._also if asked in each.split())}
        allowed = {asked, *(also - self._planned)}  # asked for as "Black", it may be said as "black woman"
        found = [_plain(match) for match in self._any_ethnicity.findall(sentence)]
        for name in found:
            if name not in allowed:
                return Rejection("ethnicity", name)
        return Rejection("ethnicity", "not said") if must_say and asked not in found else None

    def _name(self, sentence: str) -> Rejection | None:
        for match in _CAPITALISED.finditer(sentence):
            words = re.findall(r"[\w'’]+", match[0])
            if match.start() == 0 or sentence[: match.start()].rstrip().endswith((".", "!", "?")):
                words = words[1:]  # any word may begin a sentence
            if any(word.lower() not in self._no_names for word in words):
                return Rejection("name", match[0])
        for match in _LIKE_A_NAME.finditer(sentence):
            if match[1].lower() not in self._no_names:
                return Rejection("name", match[0])
        return None

    def _otherwise(self, sentence: str, attributes: Mapping[str, Any]) -> Rejection | None:
        """An attribute of which the sentence says another word of its vocabulary."""
        for name, pattern in self._attributes.items():
            has = _plain(str(attributes.get(name, "")))
            for match in pattern.finditer(sentence):
                said = _plain(match[1])
                if has and said not in has and has not in said:
                    return Rejection("attributes", f"{name}: {said}")
        age = attributes.get("age")
        if age is not None and _AGE.search(sentence) and str(age) not in re.findall(r"\d+", sentence):
            return Rejection("attributes", f"age: {age}")
        return None


def estimate_tokens(sentence: str) -> int:
    """About how many tokens CLIP's tokenizer makes of a sentence, start and end of text included.

    Its 49,152 word pieces are not at hand offline. It splits a text into words, single digits and runs of punctuation,
    each at least one token; words are counted as one for every eight letters begun, or for every byte where not ASCII.
    """
    pieces = _PIECE.findall(sentence.lower())
    return 2 + sum(
        -(-len(piece.encode()) // LETTERS_PER_TOKEN) if piece.isascii() else len(piece.encode()) for piece in pieces
    )


def _length(sentence: str) -> Rejection | None:
    tokens = estimate_tokens(sentence)
    return Rejection("tokens", str(tokens)) if tokens > MAX_TOKENS else None


def _phrases(words: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the words as a whole in a text of lower case, the longest first; a space also finds hyphens."""
    return _compiled(frozenset(words))


@lru_cache(maxsize=256)
def _compiled(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{_alternatives(words)})(?!\w)")


def _alternatives(words: Iterable[str]) -> str:
    longest_first = sorted(map(str.lower, words), key=lambda word: (-len(word), word))
    return (
        "|".join(re.escape(word).replace(r"\ ", r"[\s-]+").replace(r"\-", r"[\s-]+") for word in longest_first)
        or r"(?!)"
    )


def _plain(words: str) -> str:
    return " ".join(re.split(r"[\s-]+", words.lower()))
