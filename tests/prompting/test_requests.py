"""What a model is asked, what is read from its answers, and the figures about what came of it."""

import io
import json
import random
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics
from facesyn.errors import UsageError
from facesyn.prompting.formulation import Formulation, load
from facesyn.prompting.report import entropies, measure, print_report
from facesyn.prompting.requests import Answer, Description, Request, Requests
from facesyn.prompting.screening import Rejection, Screen
from facesyn.records import PromptRow
from facesyn.registry import Role, create

CELL = Cell("Caucasian", "female", AgeInterval(45, 59))
ONE = {
    "attributes": {"age": 50, "face_shape": "oval", "freckles": "yes", "marks": "none"},
    "sentence": "a  woman\nof 50",
}


def request(count: int = 2, cell: Cell = CELL, **further: Any) -> Request:
    rngs = [random.Random(number) for number in range(count)]
    return Requests(load()).request(cell, rngs, **{"seed": 2**40 + 5, "accepted": [], "problems": [], **further})


def read(text: str | None, ages: tuple[int, ...] = (50,)) -> list[Description | Rejection]:
    asked = request(2)
    asked.attributes["age"]["enum"] = list(ages)
    return Requests(load()).read(Answer(text), asked)


def test_a_request_says_the_cell_and_draws_people() -> None:
    asked = request(3, accepted=["said already"], problems=["age"])
    assert asked.wanted == 3 and asked.seed == 5
    assert "Write 3 prompts: Caucasian, female, 45 to 59 years old." in asked.user
    lines = [line for line in asked.user.splitlines() if "year old Caucasian woman; face: " in line]
    assert len(set(lines)) == 3
    assert "- said already" in asked.user and "rejected for: age." in asked.user
    assert [message["role"] for message in asked.messages(schema_in_words=False)] == ["system", "user"]
    assert "rejected" not in request(3).user


def test_the_schema_holds_attributes_to_the_cell() -> None:
    asked = request(2)
    assert set(asked.attributes["age"]["enum"]) <= set(range(45, 60)) and len(asked.attributes["age"]["enum"]) <= 2
    assert (
        "greying brown" in asked.attributes["hair_color"]["enum"]
        and "white" not in asked.attributes["hair_color"]["enum"]
    )
    assert asked.attributes["facial_hair"]["enum"] == ["none"]
    assert "clothing" in asked.attributes and "hair_greying" not in asked.attributes
    people = asked.schema["properties"]["people"]
    assert people["minItems"] == people["maxItems"] == 2
    assert people["items"]["required"] == ["attributes", "sentence"]
    system, _ = asked.messages(schema_in_words=True)
    assert "build: slim | average | full" in system["content"]


def test_what_templates_draw_is_what_models_may_choose() -> None:
    rng = random.Random(1)
    for cell in Demographics().cells:
        choices = load().choices(cell)
        for _ in range(60):
            for name, value in load().sample_attributes(cell, rng).items():
                if name not in ("ethnicity", "gender", "age"):
                    assert {True: "yes", False: "no"}.get(value, value) in choices[name]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"people": [ONE, ONE]}),
        json.dumps([ONE, ONE]),
        f"Here you are:\n```json\n{json.dumps({'people': [ONE, ONE]})}\n```\nEnjoy!",
        f"<think>{{maybe}} []</think>{json.dumps({'people': [ONE, ONE, ONE]})}",
        json.dumps({"people": [ONE, ONE]}).replace("oval", " Oval").replace('"yes"', "true"),
    ],
)
def test_answers_are_read_in_many_wrappings(text: str) -> None:
    found = read(text)
    assert found == [Description({"age": 50, "face_shape": "oval", "freckles": True}, "a woman of 50")] * 2


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (None, ["refused", "refused"]),
        ("I am sorry.", ["unreadable", "unreadable"]),
        ("", ["unreadable", "unreadable"]),
        ('{"people": 3}', ["unreadable", "unreadable"]),
        ("{{{", ["unreadable", "unreadable"]),
        ("{}", ["missing", "missing"]),
        ('{"people": []}', ["missing", "missing"]),
        ('{"people": [1, {"attributes": [], "sentence": "x"}]}', ["missing", "unreadable"]),
        (json.dumps({"people": [{**ONE, "attributes": {"age": 44}}]}), ["attributes", "missing"]),
        (json.dumps({"people": [{**ONE, "attributes": {}}]}), ["attributes", "missing"]),
        (json.dumps({"people": [{**ONE, "attributes": {"age": 50, "nose": ["wide"]}}]}), ["attributes", "missing"]),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str | None, reasons: list[str]) -> None:
    assert [each.reason for each in read(text) if isinstance(each, Rejection)] == reasons


def test_a_single_object_and_a_truncated_list_are_read() -> None:
    found = read(json.dumps(ONE))
    assert isinstance(found[0], Description) and found[1] == Rejection("missing")
    whole = json.dumps({"people": [ONE, ONE]})
    found = read(whole[: len(whole) - 20])
    assert isinstance(found[0], Description) and isinstance(found[1], Rejection)


def test_own_templates_and_attributes_are_asked_for(tmp_path: Path) -> None:
    source = Path(str(resources.files("facesyn_prompts")))
    for name in ("templates", "vocabularies", "requests"):
        shutil.copytree(source / name, tmp_path / name)
    (tmp_path / "vocabularies" / "glasses.toml").write_text('[[table]]\nwords = { none = 3, "round glasses" = 1 }\n')
    (tmp_path / "requests" / "user.j2").write_text("{{ people | length }} of {{ ethnicity }}")
    (tmp_path / "requests" / "description.schema.json").write_text(
        '{"properties": {"attributes": {"properties": {"scent": {"type": "string"}}}, "sentence": {"type": "string"}}}'
    )
    asked = Requests(Formulation(tmp_path)).request(CELL, [random.Random(1)], seed=1, accepted=[], problems=[])
    assert asked.user == "1 of Caucasian" and "image generator" in asked.system
    assert asked.attributes["glasses"]["enum"] == ["none", "round glasses"] and asked.attributes["scent"]
    (tmp_path / "requests" / "user.j2").write_text("{{ nobody }}")
    with pytest.raises(UsageError, match=r"user\.j2"):
        Requests(Formulation(tmp_path)).request(CELL, [random.Random(1)], seed=1, accepted=[], problems=[])
    (tmp_path / "requests" / "description.schema.json").write_text("[]")
    with pytest.raises(UsageError, match=r"description\.schema\.json"):
        Requests(Formulation(tmp_path))


def row(number: int, prompt: str, **further: Any) -> PromptRow:
    cell = {"ethnicity": CELL.ethnicity, "gender": CELL.gender, "age_interval": str(CELL.age_interval)}
    return PromptRow.model_validate({"id": f"{number}", **cell, "prompt": prompt, "seed": number, **further})


def test_figures_are_those_of_the_prompts() -> None:
    screen = Screen(load(), [CELL])
    rejected = [{"attempt": 0, "reason": "age", "found": "12"}, {"reason": "near-duplicate", "times": 3}]
    rows = [
        row(1, "a woman a woman", attributes={"age": 50, "nose": "wide"}, formulation={"sentence_by": "model"}),
        row(2, "A woman, a woman!", attributes={"age": 51, "nose": "thin"}, formulation={"rejected": rejected}),
        row(3, "a bearded man in profile", attributes={"age": 52, "nose": "thin"}),
        row(4, "nothing else"),
    ]
    figures = measure(rows, screen)
    assert (figures.prompts, figures.by_model, figures.duplicates, figures.near) == (4, 1, 1, 1)
    assert figures.vocabulary == 8 and figures.distinct_1 == 8 / 15 and figures.distinct_2 == 7 / 11
    assert entropies(rows) == {"nose": 1.5} and figures.entropy == 1.5
    assert figures.screened == {"pose": 1} and figures.rejected == {"age": 1, "near-duplicate": 3}


def test_the_report_has_a_line_per_cell() -> None:
    rows = list(create(Role.PROMPTER, "template").write(Demographics().plan(64, seed=1), seed=1))
    printed = io.StringIO()
    print_report(rows, load(), printed)
    lines = printed.getvalue().splitlines()
    assert lines[0].split()[:2] == ["cell", "prompts"]
    for cell in Demographics().cells:
        assert sum(line.startswith(f"{cell} ") for line in lines) == 1
    assert any(line.startswith("hair_style") for line in lines)


def test_the_report_leaves_the_rows_alone(facesyn: Any, tmp_path: Path) -> None:
    plain = facesyn("prompts", "-n", 4)
    told = facesyn("prompts", "-n", 4, "--report")
    assert told.stdout == plain.stdout and "distinct-1" in told.stderr and "distinct-1" not in plain.stderr
    filed = facesyn("prompts", "-n", 4, "--report", "-o", tmp_path / "prompts.jsonl")
    assert "distinct-1" in filed.stdout and (tmp_path / "prompts.jsonl").read_text() == plain.stdout
