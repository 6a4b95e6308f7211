"""What a language model is asked, and what is read from its answer. Knows no model, and judges no sentence.

A request wants descriptions of several people of one cell. A description is a JSON object with the attributes apart
from the sentence: `{"attributes": {"age": 34, …}, "sentence": "…"}`.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from facesyn.demographics import Cell
from facesyn.errors import UsageError
from facesyn.prompting.formulation import ATTRIBUTES, NOUNS, Formulation
from facesyn.prompting.screening import Rejection

SCHEMA = "requests/description.schema.json"
REMINDED = 6
"""So many accepted sentences of the cell are shown to the model, so that it does not write them again."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """One call of a model: `wanted` descriptions in JSON of that schema."""

    system: str
    user: str
    schema: Mapping[str, Any]
    wanted: int
    seed: int
    """In [0, 2**31), which every server takes."""

    def messages(self, *, schema_in_words: bool) -> list[dict[str, str]]:
        """For a chat. A model that sees no schema, only feels one in its sampling or none at all, wants it in words."""
        system = f"{self.system}\n\n{self._attributes_in_words}" if schema_in_words else self.system
        return [{"role": "system", "content": system}, {"role": "user", "content": self.user}]

    @property
    def attributes(self) -> dict[str, Any]:
        """Attribute → its part of the schema."""
        return self.schema["properties"]["people"]["items"]["properties"]["attributes"]["properties"]

    @property
    def _attributes_in_words(self) -> str:
        """A line per attribute with the words it may have."""
        lines = [
            f"{name}: {' | '.join(map(str, kind.get('enum', ['a few words'])))}"
            for name, kind in self.attributes.items()
        ]
        return "The attributes and their words:\n" + "\n".join(lines)


@dataclass(frozen=True)
class Answer:
    """What a model said: its text, or None where it refused. `facts` go into the rows."""

    text: str | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """One person as a model describes it. `attributes` has the names and words of `Formulation.sample_attributes`."""

    attributes: dict[str, Any]
    sentence: str


class Requests:
    """Makes requests and reads answers with the templates and the schema of a formulation's folder."""

    def __init__(self, formulation: Formulation):
        self._formulation = formulation
        file, text = formulation.read_file(SCHEMA)
        try:
            schema = json.loads(text)
            self._further: dict[str, Any] = schema["properties"]["attributes"]["properties"]
            self._sentence: dict[str, Any] = schema["properties"]["sentence"]
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"{file} is not a JSON schema of a description.",
                hint="It has the properties attributes (an object) and sentence; start from a copy of facesyn's own.",
            ) from None

    def request(
        self, cell: Cell, rngs: Sequence[random.Random], *, seed: int, accepted: Sequence[str], problems: Sequence[str]
    ) -> Request:
        """Asks for one person of the cell per generator in `rngs`.

        Each draws a person from the vocabularies of whom the model is told age and a few traits, as it would otherwise
        describe the same few people again and again. `accepted` are sentences not to repeat, `problems` reasons
        for which earlier answers were rejected.
        """
        people = [self._formulation.sample_attributes(cell, rng) for rng in rngs]
        blank: dict[str, Any] = dict.fromkeys([*ATTRIBUTES, *self._formulation.choices(cell)])
        names = {
            "ethnicity": cell.ethnicity,
            "gender": cell.gender,
            "noun": NOUNS.get(cell.gender, "person"),
            "low": cell.age_interval.low,
            "high": cell.age_interval.high,
            "people": [{**blank, **person} for person in people],
            "accepted": accepted[-REMINDED:],
            "problems": problems,
        }
        return Request(
            system=self._formulation.render_request("system.j2", **names),
            user=self._formulation.render_request("user.j2", **names),
            schema=self._answer_schema(cell, len(people), sorted({person["age"] for person in people})),
            wanted=len(people),
            seed=seed % 2**31,
        )

    def read(self, answer: Answer, request: Request) -> list[Description | Rejection]:
        """One description, or the reason why there is none, for each that was asked for.

        Of an answer that was cut off, the descriptions that are whole are read.
        """
        if answer.text is None:
            return [Rejection("refused")] * request.wanted
        found = json_in(answer.text)
        if isinstance(found, dict):
            found = found.get("people", [found])
        if not isinstance(found, list):
            return [Rejection("unreadable")] * request.wanted
        read = [_description(each, request.attributes) for each in found[: request.wanted]]
        return read + [Rejection("missing")] * (request.wanted - len(read))

    def _answer_schema(self, cell: Cell, count: int, ages: list[int]) -> dict[str, Any]:
        attributes = {"age": {"type": "integer", "enum": ages}}
        for name, words in self._formulation.choices(cell).items():
            attributes[name] = {"type": "string", "enum": words}
        person = _object({"attributes": _object(attributes | self._further), "sentence": self._sentence})
        return _object({"people": {"type": "array", "items": person, "minItems": count, "maxItems": count}})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def json_in(text: str) -> Any:
    """The first JSON value of a text, which may stand among other words or end too early; None where there is none."""
    text = _THOUGHT.sub("", text)
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=None)
    if start is None:
        return None
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, start)[0]
    except ValueError:
        pass
    try:
        return from_json(text[start:], allow_partial=True)
    except ValueError:
        return None


def _description(found: Any, schema: Mapping[str, Any]) -> Description | Rejection:
    if not isinstance(found, dict) or not {"attributes", "sentence"} <= found.keys():
        return Rejection("missing")
    attributes, sentence = found["attributes"], found["sentence"]
    if not isinstance(attributes, dict) or not isinstance(sentence, str):
        return Rejection("unreadable")
    kept: dict[str, Any] = {}
    for name, kind in schema.items():
        value = _word(attributes.get(name, "none"))
        if value == "none" and name != "age":
            continue
        if not isinstance(value, str | int) or value not in kind.get("enum", [value]):
            return Rejection("attributes", f"{name}: {str(value)[:40]}")
        kept[name] = {"yes": True, "no": False}.get(str(value), value)
    return Description(kept, " ".join(sentence.split()))


def _word(value: Any) -> Any:
    """As the vocabularies write it: models that see no schema write `Oval` and `true`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.strip().lower() if isinstance(value, str) else value
