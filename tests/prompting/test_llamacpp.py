"""Real language models of random weights: in this process by llamacpp, and behind llama.cpp's server by openai.

What they say means nothing, but a grammar makes it JSON with words of the vocabularies, so that attributes are the
model's, and every sentence is rejected and filled from templates.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics
from facesyn.errors import BackendError, ModelError, UsageError
from facesyn.prompting.formulation import load
from facesyn.prompting.requests import Requests
from facesyn.prompting.screening import Screen
from facesyn.records import PromptRow, read_rows
from facesyn.registry import Role, create
from facesyn.testing import PromptWriterContract

CELL = Cell("African", "male", AgeInterval(30, 44))
FAST = {"batch": 2, "attempts": 1}


def writer(model: Path, **options: Any) -> Any:
    return create(Role.PROMPTER, "llamacpp", {"model": str(model), "threads": 1, **FAST, **options})


def formulation(row: PromptRow) -> Any:
    return (row.model_extra or {})["formulation"]


def check_two_hundred(rows: list[PromptRow]) -> None:
    """Exact quotas over 32 cells, no duplicate, no contradiction by the screen, attributes by the model."""
    cells = Counter(row.cell for row in rows)
    assert cells == Demographics().quotas(200) and len(cells) == 32
    assert len({row.prompt for row in rows}) == 200
    screen = Screen(load(), cells)
    assert not any(screen.reject(row.prompt, row.cell, must_say=True) for row in rows)
    assert Counter(formulation(row)["attributes_by"] for row in rows)["model"] > 150
    assert all(formulation(row)["rejected"] for row in rows if formulation(row)["sentence_by"] == "template")
    for row in rows:
        choices = load().choices(row.cell)
        for name, value in (row.model_extra or {})["attributes"].items():
            if name in choices:
                assert {True: "yes", False: "no"}.get(value, value) in choices[name], (name, value)


class TestLlamaCppWriter(PromptWriterContract):
    count = 8

    @pytest.fixture(autouse=True)
    def file(self, tiny_gguf: Path) -> None:
        self.model = tiny_gguf

    def make(self) -> Any:
        return writer(self.model)


def test_two_hundred_prompts_in_this_process(tiny_gguf: Path, facesyn: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    options = [word for name, value in FAST.items() for word in ("--option", f"{name}={value}")]
    result = facesyn("prompts", "-n", 200, "--backend", "llamacpp", "--model", tiny_gguf, *options, "-o", file)
    assert result.exit_code == 0, result.stderr
    rows = read_rows(file, PromptRow)
    check_two_hundred(rows)
    assert formulation(rows[0])["model"] == "tiny.gguf" and len(formulation(rows[0])["sha256"]) == 64
    assert str(tiny_gguf.parent) not in file.read_text()


def test_two_hundred_prompts_by_the_server(llama_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `json_schema` fails with 500, so the backend finds out that `json_object` with a schema works."""
    monkeypatch.setenv("OPENAI_BASE_URL", llama_server)
    backend = create(Role.PROMPTER, "openai", {"model": "tiny", "timeout": 600, "concurrency": 1, **FAST})
    rows = list(backend.write(Demographics().plan(200, seed=1), seed=1))
    check_two_hundred(rows)
    reasons = Counter(each["reason"] for row in rows for each in formulation(row)["rejected"])
    assert reasons["unreadable"] + reasons["missing"] + reasons["attributes"] < 20


def test_the_same_seed_gives_the_same_rows(tiny_gguf: Path) -> None:
    cells = Demographics().plan(12, seed=1)
    one, other = writer(tiny_gguf), writer(tiny_gguf)
    rows = list(one.write(cells, seed=1))
    assert list(other.write(cells, seed=1)) == rows
    assert list(one.write(cells, seed=1)) == rows  # whatever it was asked before
    assert [row.prompt for row in one.write(cells, seed=2)] != [row.prompt for row in rows]


def test_answers_hold_to_the_schema(tiny_gguf: Path) -> None:
    import random

    request = Requests(load()).request(CELL, [random.Random(n) for n in range(2)], seed=1, accepted=[], problems=[])
    (answer,) = writer(tiny_gguf)._complete([request])
    found = Requests(load()).read(answer, request)
    assert len(found) == 2
    for each in found:
        assert each.attributes["age"] in CELL.age_interval  # type: ignore[union-attr]


def test_a_context_too_small_is_said(tiny_gguf: Path) -> None:
    with pytest.raises(BackendError, match="context") as error:
        list(writer(tiny_gguf, context=256).write([CELL], seed=1))
    assert "--option context=16384" in (error.value.hint or "")


def test_a_missing_file_is_said(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Cannot read the model .*none.gguf: No such file") as error:
        writer(tmp_path / "none.gguf")
    assert "hf download" in (error.value.hint or "")
    with pytest.raises(UsageError, match="needs a GGUF file") as usage:
        create(Role.PROMPTER, "llamacpp")
    assert "--model FILE.gguf" in (usage.value.hint or "")


def test_a_file_of_another_kind_is_said(tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_text("PK")
    with pytest.raises(ModelError, match="no GGUF file"):
        writer(other)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cannot load"):
        list(writer(cut).write([CELL], seed=1))


def test_a_missing_package_is_said(facesyn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    result = facesyn("prompts", "-n", 1, "--backend", "llamacpp", "--model", "any.gguf")
    assert result.exit_code == 1 and "needs llama-cpp-python" in result.stderr
