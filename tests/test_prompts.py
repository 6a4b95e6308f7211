"""`facesyn prompts`, the template backend, and the sentences themselves."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics
from facesyn.errors import UsageError
from facesyn.prompting.formulation import DECADES, Formulation, load, with_article
from facesyn.registry import Role, create
from facesyn.testing import PromptWriterContract

CELL = Cell("South Asian", "female", AgeInterval(45, 59))
FULL = {
    "ethnicity": "Caucasian",
    "gender": "female",
    "age": 34,
    "face_shape": "heart-shaped",
    "build": "slim",
    "skin": "fair",
    "hair_style": "chin-length bob with a long side fringe",
    "hair_color": "greying dark brown",
    "eye_color": "light blue",
    "eyebrows": "heavy",
    "nose": "narrow",
    "lips": "full",
    "lipstick": True,
    "freckles": True,
}


class TestTemplateWriter(PromptWriterContract):
    def make(self) -> Any:
        return create(Role.PROMPTER, "template")


@pytest.fixture
def prompts_folder(tmp_path: Path) -> Path:
    """A copy of facesyn's own templates and vocabularies, to be edited."""
    for name in ("templates", "vocabularies"):
        shutil.copytree(str(resources.files("facesyn_prompts") / name), tmp_path / name)
    return tmp_path


def clip_tokens(prompt: str) -> int:
    """Pieces as CLIP's tokenizer splits a text before merging: words, single digits, runs of punctuation."""
    return len(re.findall(r"[a-z]+|\d|[^\sa-z\d]+", prompt.lower()))


def said_by_all(attributes: dict[str, Any]) -> list[str]:
    """The sentence in each phrasing."""
    rng = random.Random(0)
    return sorted({load().render_prompt(attributes, rng) for _ in range(200)})


def test_rows_have_the_named_fields_and_are_balanced(facesyn: Any) -> None:
    result = facesyn("prompts", "-n", 64, "--seed", 1)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    keys = [
        "id",
        "ethnicity",
        "gender",
        "age_interval",
        "prompt",
        "negative_prompt",
        "seed",
        "attributes",
        "formulation",
    ]
    assert [list(row) for row in rows] == [keys] * 64
    cells = Counter((row["ethnicity"], row["gender"], row["age_interval"]) for row in rows)
    assert len(cells) == 32 and set(cells.values()) == {2}
    assert facesyn("prompts", "-n", 64, "--seed", 1).stdout == result.stdout
    assert facesyn("prompts", "-n", 64, "--seed", 2).stdout != result.stdout


def test_prompts_say_the_cell() -> None:
    cells = Demographics().plan(320, seed=3)
    for row in create(Role.PROMPTER, "template").write(cells, seed=3):
        cell = row.cell
        assert f"{cell.ethnicity} {'woman' if cell.gender == 'female' else 'man'}" in row.prompt
        age = re.search(r"(\d+) year old|aged (\d+)", row.prompt)
        assert age and int(age[1] or age[2]) in cell.age_interval
        decade = re.search(r"in (?:her|his) (\w+)", row.prompt)
        assert not decade or decade[1] == DECADES[int(age[1]) // 10 - 2]
        for said in (
            "frontal portrait",
            "neutral expression",
            "looking at the camera",
            "plain light grey background",
        ):
            assert said in row.prompt
        assert "child" in row.negative_prompt


def test_thousands_of_a_cell_are_distinct_and_short_enough() -> None:
    prompts = [row.prompt for row in create(Role.PROMPTER, "template").write([CELL] * 3000, seed=1)]
    assert len(set(prompts)) == 3000
    assert max(map(clip_tokens, prompts)) <= 70


def test_the_longest_sentence_fits_the_text_encoder() -> None:
    assert max(map(clip_tokens, said_by_all(FULL))) <= 70
    assert max(len(prompt.split()) for prompt in said_by_all(FULL)) <= 55


@pytest.mark.parametrize(
    ("style", "color", "says"),
    [
        ("bald", "brown", "a bald head"),
        ("shaved", None, "a shaved head"),
        ("afro", "black", "a black afro"),
        ("afro", None, "an afro"),
        ("ponytail", "greying brown", "a greying brown ponytail"),
        ("buzz cut", "dark brown", "a dark brown buzz cut"),
        ("short tousled", "dark brown", "short tousled dark brown hair"),
        ("receding", "white", "receding white hair"),
        ("shoulder-length bob with a side fringe", "red", "a red shoulder-length bob with a side fringe"),
        (None, "blond", "blond hair"),
    ],
)
def test_hair_reads_well(style: str | None, color: str | None, says: str) -> None:
    attributes = {
        "ethnicity": "Caucasian",
        "gender": "male",
        "age": 50,
        "hair_style": style,
        "hair_color": color,
    }
    assert all(f", {says}," in f"{prompt}," for prompt in said_by_all(attributes))


def test_every_attribute_is_said_and_an_absent_one_is_not() -> None:
    for prompt in said_by_all(FULL):
        for said in (
            "heart-shaped face",
            "slim build",
            "freckled fair skin",
            "light blue eyes",
            "heavy eyebrows",
        ):
            assert said in prompt
        assert "narrow nose" in prompt and "full lips with lipstick" in prompt
    for prompt in said_by_all({"ethnicity": "Andean", "gender": "other", "age": 80, "facial_hair": "none"}):
        assert re.match(r"(frontal portrait.*)?an (80 year old )?Andean person", prompt)
        assert not re.search(r"None|none|face|skin|hair|eyes|lips|,\s*,|  |\{|%", prompt)
    man = {"ethnicity": "African", "gender": "male", "age": 18}
    assert all("a full beard" in prompt for prompt in said_by_all({**man, "facial_hair": "full beard"}))
    assert all(", stubble" in prompt for prompt in said_by_all({**man, "facial_hair": "stubble"}))
    assert all("an 18 year old" in prompt or "aged 18" in prompt for prompt in said_by_all(man))


@pytest.mark.parametrize(
    ("age", "decade"), [(18, None), (20, "twenties"), (34, "thirties"), (80, "eighties"), (101, None)]
)
def test_the_decade_is_that_of_the_age(age: int, decade: str | None) -> None:
    prompts = said_by_all({"ethnicity": "African", "gender": "female", "age": age})
    assert {found for prompt in prompts for found in re.findall(r"in her (\w+)", prompt)} == {decade} - {None}


def test_averages_are_not_said() -> None:
    average = dict.fromkeys(("build", "nose", "lips", "eyebrows"), "average")
    assert not any("average" in prompt for prompt in said_by_all({**FULL, **average}))


@pytest.mark.parametrize(
    "phrase", ["an 80 year old", "an 18 year old", "an 11", "a 34 year old", "a 108", "an oval face"]
)
def test_articles(phrase: str) -> None:
    assert with_article(phrase.split(" ", 1)[1]) == phrase


def test_attributes_follow_the_conditions() -> None:
    rng = random.Random(4)
    women = [load().sample_attributes(Cell("African", "female", AgeInterval(18, 29)), rng) for _ in range(500)]
    assert not any("facial_hair" in attributes for attributes in women)
    assert {attributes["hair_color"] for attributes in women} == {"black", "dark brown"}
    assert any(attributes["hair_style"] == "afro" for attributes in women)
    assert not any(attributes["freckles"] for attributes in women)
    old = [load().sample_attributes(Cell("Caucasian", "male", AgeInterval(67, 80)), rng) for _ in range(500)]
    colors = Counter(attributes["hair_color"].partition(" ")[0] for attributes in old)
    assert colors["white"] > 100 and colors["grey"] > 100 and colors["greying"] > 50
    assert 50 < sum(attributes["freckles"] for attributes in old) < 140
    assert {attributes["facial_hair"] for attributes in old} == {
        "clean-shaven",
        "stubble",
        "short beard",
        "full beard",
    }


def test_an_unknown_ethnicity_and_gender_fall_back(facesyn: Any) -> None:
    result = facesyn("prompts", "-n", 8, "--ethnicity", "Andean", "--gender", "nonbinary", "--age", "20-40")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 8 and all("Andean person" in row["prompt"] and " skin" in row["prompt"] for row in rows)


def test_weights_reach_the_plan(facesyn: Any) -> None:
    result = facesyn("prompts", "-n", 40, "--weight", "African=2", "--weight", "male=0")
    counted = Counter(json.loads(line)["ethnicity"] for line in result.stdout.splitlines())
    assert counted == {"African": 16, "East Asian": 8, "Caucasian": 8, "South Asian": 8}


def test_a_file_is_written(facesyn: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    result = facesyn("prompts", "-n", 3, "-o", file)
    assert result.stdout == "" and file.read_text(encoding="utf-8") == facesyn("prompts", "-n", 3, "-o", "-").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backend", "tempalte"], "Did you mean 'template'?"),
        (["--age", "12-17"], "under 18"),
        (["--age", "thirty"], "Write it as 18-29."),
        (["--weight", "African"], "Write it as African=2."),
        (["--weight", "Africn=2"], "no category of this plan"),
        (["--option", "tone"], "--option steps=4"),
        (["--option", "tone=dry"], "no option 'tone'"),
        (["--templates", "nowhere"], "nowhere/vocabularies"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(facesyn: Any, arguments: list[str], says: str) -> None:
    result = facesyn("prompts", "-n", 4, *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert says in result.stderr and "Traceback" not in result.stderr


def test_nothing_is_written_where_a_row_fails(facesyn: Any, prompts_folder: Path, tmp_path: Path) -> None:
    for file in (prompts_folder / "vocabularies").iterdir():
        file.write_text("[[table]]\nwords = { one = 1 }\n", encoding="utf-8")
    file = tmp_path / "out.jsonl"
    cell = ["--ethnicity", "African", "--gender", "male", "--age", "30-30"]
    result = facesyn("prompts", "-n", 100, *cell, "--templates", prompts_folder, "-o", file)
    assert result.exit_code == 2 and "African / male / 30-30" in result.stderr
    assert not file.exists()


def test_own_words_are_used(prompts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prompts_folder / "vocabularies" / "glasses.toml").write_text(
        '[[table]]\nwords = { none = 1 }\n\n[[table]]\nwhen = { age = "45-120" }\nreplace = true\n'
        'words = { "reading glasses" = 1 }\n',
        encoding="utf-8",
    )
    (prompts_folder / "templates" / "phrasings.j2").write_text(
        "{{ ethnicity }} {{ noun }}, {{ age }}{% if glasses %}, with {{ glasses }}{% endif %}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("FACESYN_PROMPTS", str(prompts_folder))
    rng = random.Random(1)
    said = load().render_prompt(load().sample_attributes(CELL, rng), rng)
    assert re.fullmatch(r"South Asian woman, \d\d, with reading glasses", said)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("vocabularies/nose.toml", "[[table]\n", "nose.toml"),
        ("vocabularies/nose.toml", "[[tabel]]\n", "Did you mean 'table'?"),
        (
            "vocabularies/nose.toml",
            "[[table]]\nwords = { wide = -1 }\n",
            "nose.toml: the weight of 'wide' is -1",
        ),
        (
            "vocabularies/nose.toml",
            "[[table]]\nwhen = { etnicity = 'African' }\nwords = { wide = 1 }\n",
            "'etnicity'",
        ),
        ("vocabularies/nose.toml", "[[table]]\nwhen = { age = '12-30' }\nwords = { wide = 1 }\n", "under 18"),
        ("vocabularies/nose.toml", "", "holds no"),
        ("templates/phrasings.j2", "{{ age\n", "phrasings.j2 is not a valid template"),
        ("templates/phrasings.j2", "{# nothing #}\n", "holds no phrasing"),
        ("templates/phrasings.j2", "{{ hair_colour }}\n", "'hair_colour' is undefined"),
    ],
)
def test_mistakes_of_an_editor_are_named(prompts_folder: Path, file: str, content: str, says: str) -> None:
    (prompts_folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        formulation = Formulation(prompts_folder)
        rng = random.Random(0)
        formulation.render_prompt(formulation.sample_attributes(CELL, rng), rng)
    assert says in f"{error.value} {error.value.hint}"


def test_cell_attributes_are_needed() -> None:
    with pytest.raises(UsageError, match="'age'"):
        load().render_prompt({"ethnicity": "African", "gender": "male"}, random.Random(0))
    assert "beard" in load().negative_prompt(FULL) and "beard" not in load().negative_prompt({**FULL, "gender": "male"})


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-m", "facesyn", "prompts", "-n", "3000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().startswith('{"id": "000000"')
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
