"""What the screen rejects, and that it lets facesyn's own prompts through."""

import random
import shutil
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics
from facesyn.errors import UsageError
from facesyn.prompting.duplicates import NEAR, Said
from facesyn.prompting.formulation import Formulation, load
from facesyn.prompting.screening import MAX_TOKENS, REASONS, Screen, estimate_tokens
from facesyn.registry import Role, create

CELL = Cell("East Asian", "female", AgeInterval(60, 80))
GOOD = (
    "frontal portrait of a 67 year old East Asian woman with a round face, light skin, grey hair in a short bob, "
    "dark brown eyes and thin lips, wearing a linen shirt, neutral expression, looking at the camera, plain light grey "
    "background"
)


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(load(), Demographics().cells)


def test_thousands_of_template_prompts_pass(screen: Screen) -> None:
    rows = list(create(Role.PROMPTER, "template").write(Demographics().plan(6400, seed=5), seed=5))
    found = [screen.reject(row.prompt, row.cell, row.model_extra["attributes"], must_say=True) for row in rows]  # type: ignore[index]
    assert [each for each in found if each] == []
    passed_over = Counter(each["reason"] for row in rows for each in row.model_extra["formulation"]["rejected"])  # type: ignore[index]
    assert set(passed_over) <= {"near-duplicate"}


def test_a_good_sentence_passes(screen: Screen) -> None:
    assert screen.reject(GOOD, CELL, {"age": 67, "face_shape": "round"}, must_say=True) is None


@pytest.mark.parametrize(
    ("said", "instead", "reason"),
    [
        ("67 year old", "27 year old", "age"),
        ("67 year old", "67-year-old young", "age"),
        ("67 year old", "middle-aged 75 year old", "age"),
        ("67 year old", "sixty-seven year old", "age"),
        ("67 year old", "", "age"),
        ("67 year old East Asian woman", "67 year old East Asian woman in her thirties", "age"),
        ("67 year old East Asian woman", "67 year old East Asian woman in her 70s", "age"),
        ("woman", "man", "gender"),
        ("woman", "woman with his hair combed", "gender"),
        ("woman", "bearded woman", "gender"),
        ("woman", "human", "gender"),
        ("East Asian", "South Asian", "ethnicity"),
        ("East Asian", "East Asian and Nigerian", "ethnicity"),
        ("East Asian", "Asian", "ethnicity"),
        ("East Asian", "", "ethnicity"),
        ("woman", "girl", "minor"),
        ("round face", "baby-faced look", "minor"),
        ("woman", "woman resembling somebody", "name"),
        ("woman", "woman like Adele", "name"),
        ("woman", "woman named Hannah", "name"),
        ("woman", "woman, Michiko Kobayashi,", "name"),
        ("woman", "celebrity, a woman", "name"),
        ("frontal", "Meryl Streep in a frontal", "name"),
        ("frontal", "meryl streep in a frontal", "name"),
        ("linen shirt", "sexy linen shirt", "unsafe"),
        ("wearing a linen shirt", "topless", "unsafe"),
        ("looking at the camera", "looking away", "pose"),
        ("frontal portrait", "three-quarter portrait", "pose"),
        ("frontal portrait", "portrait in profile", "pose"),
        ("woman", "woman and her daughter", "people"),
        ("portrait of", "portrait of two women,", "people"),
        ("round face", "round face, " + "a most remarkable and unforgettable countenance, " * 5, "tokens"),
        ("round face", "oval face", "attributes"),
        ("67 year old", "72 year old", "attributes"),
    ],
)
def test_bad_ones_are_rejected_for_the_reason(screen: Screen, said: str, instead: str, reason: str) -> None:
    assert said in GOOD and reason in REASONS
    found = screen.reject(GOOD.replace(said, instead, 1), CELL, {"age": 67, "face_shape": "round"}, must_say=True)
    assert found is not None and found.reason == reason


@pytest.mark.parametrize(
    "sentence",
    [
        "Studio portrait of a 67-year-old East-Asian woman in her sixties, neutral expression, looking at the camera",
        "A 60 year old EAST ASIAN woman, aged 60, with elderly features, her hair pinned up, facing the camera",
        "Portrait of an older woman, East Asian, 71 years old, black hair, in a navy turtleneck, looking at the camera",
        "Japanese-born East Asian woman, 80 years of age, silver hair, plain background",
    ],
)
def test_other_ways_to_say_the_cell_pass(screen: Screen, sentence: str) -> None:
    assert screen.reject(sentence, CELL, must_say=True) is None


def test_what_is_left_out_contradicts_nothing(screen: Screen) -> None:
    assert screen.reject("portrait of somebody", CELL) is None


@pytest.mark.parametrize(
    ("ethnicity", "gender", "sentence", "reason"),
    [
        ("Andean", "nonbinary", "a 64 year old Andean person, plain background", None),
        ("Andean", "nonbinary", "a 64 year old Andean woman, plain background", "gender"),
        ("Andean", "woman", "a 64 year old Andean woman, plain background", None),
        ("Sami", "female", "a 64 year old Andean woman, plain background", "ethnicity"),
        ("North Andean", "female", "a 64 year old North Andean woman, plain background", None),
        ("Andean", "female", "a 64 year old North Andean woman, plain background", "ethnicity"),
        ("Black", "male", "a 64 year old Black man with black hair, plain background", None),
        ("Nigerian", "male", "a 64 year old Nigerian man, plain background", None),
        ("Nigerian", "male", "a 64 year old Kenyan man, plain background", "ethnicity"),
    ],
)
def test_own_categories_are_known(ethnicity: str, gender: str, sentence: str, reason: str | None) -> None:
    planned = [
        Cell(name, gender, CELL.age_interval) for name in ("Andean", "North Andean", "Sami", "Nigerian", "Black")
    ]
    found = Screen(load(), planned).reject(sentence, Cell(ethnicity, gender, CELL.age_interval), must_say=True)
    assert (found.reason if found else None) == reason


def test_free_words_of_attributes_are_screened_too(screen: Screen) -> None:
    found = screen.reject(GOOD, CELL, {"marks": "a bloody nose"})
    assert found is not None and found.reason == "unsafe"


def test_tokens_are_not_fewer_than_the_pieces_of_clip() -> None:
    assert estimate_tokens("a woman") == 4
    assert estimate_tokens("36 years, it's") == 2 + 2 + 1 + 1 + 2
    assert estimate_tokens("heart-shaped") == 5
    assert estimate_tokens("uncharacteristically") == 5
    assert estimate_tokens("女") == 5
    longest = max(estimate_tokens(row.prompt) for row in create(Role.PROMPTER, "template").write([CELL] * 500, seed=1))
    assert 50 < longest <= MAX_TOKENS


def test_an_own_list_takes_the_place_of_ours(tmp_path: Path) -> None:
    source = Path(str(resources.files("facesyn_prompts")))
    for name in ("templates", "vocabularies"):
        shutil.copytree(source / name, tmp_path / name)
    assert Screen(Formulation(tmp_path)).reject("in the nude", CELL)  # the folder has no list of its own
    text = (source / "screening.toml").read_text()
    (tmp_path / "screening.toml").write_text(text.replace('"nude", ', '"purple", '))
    own = Screen(Formulation(tmp_path))
    assert own.reject("in purple", CELL) and not own.reject("in the nude", CELL)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("minors = [", "screening.toml"),
        ("minors = []", "screening.toml: unsafe"),
        ("minor = []", "screening.toml"),
    ],
)
def test_a_broken_list_is_named(tmp_path: Path, content: str, says: str) -> None:
    source = Path(str(resources.files("facesyn_prompts")))
    for name in ("templates", "vocabularies"):
        shutil.copytree(source / name, tmp_path / name)
    (tmp_path / "screening.toml").write_text(content)
    with pytest.raises(UsageError, match=says):
        Screen(Formulation(tmp_path))


def test_templates_that_cannot_pass_are_said(facesyn: Any, tmp_path: Path) -> None:
    source = Path(str(resources.files("facesyn_prompts")))
    for name in ("templates", "vocabularies"):
        shutil.copytree(source / name, tmp_path / name)
    (tmp_path / "templates" / "phrasings.j2").write_text(
        "three-quarter view of {{ say.person() }}{{ say.features() }}\n"
    )
    result = facesyn("prompts", "-n", 2, "--templates", tmp_path)
    assert result.exit_code == 2 and "do not pass the screen: pose" in result.stderr
    assert "three-quarter" in result.stderr and str(tmp_path) in result.stderr


def test_duplicates_exact_and_near() -> None:
    said = Said()
    assert said.likeness(GOOD) == 0 and not said.repeats(GOOD)
    said.add(GOOD)
    assert said.repeats(GOOD.upper().replace(",", " ;"))
    assert said.likeness(GOOD) == 1
    assert said.likeness(GOOD.replace("linen", "denim")) >= NEAR
    assert not said.repeats(GOOD.replace("linen", "denim"))
    other = (
        "studio photo of an East Asian woman aged 74, oval face, long white hair, full lips, in a blazer, soft light"
    )
    assert said.likeness(other) < 0.3
    assert Said().likeness("one") == 0


def test_likeness_is_the_jaccard_similarity() -> None:
    rng = random.Random(1)
    sentences = [" ".join(rng.choices("abcdefgh", k=rng.randint(3, 20))) for _ in range(60)]

    def shingles(sentence: str) -> set[tuple[str, ...]]:
        words = sentence.split()
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    said = Said()
    for number, sentence in enumerate(sentences):
        mine = shingles(sentence)
        expected = max(
            (len(mine & shingles(each)) / len(mine | shingles(each)) for each in sentences[:number]), default=0
        )
        assert said.likeness(sentence) == pytest.approx(expected)
        said.add(sentence)
