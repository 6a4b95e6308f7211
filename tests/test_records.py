"""Rows on their way through JSONL files."""

import json
from pathlib import Path
from typing import Any

import pytest

from facesyn.errors import RecordError
from facesyn.records import PairRow, PromptRow, format_row, parse_rows, read_rows, write_bytes, write_rows
from facesyn.testing.samples import prompt_rows

GOOD: dict[str, Any] = {
    "id": "000001",
    "ethnicity": "African",
    "gender": "male",
    "age_interval": "18-29",
    "prompt": "a face",
    "seed": 5,
}


def test_rows_are_written_and_read_back(tmp_path: Path) -> None:
    rows = prompt_rows(5)
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", PromptRow) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_unknown_keys_are_handed_on() -> None:
    line = json.dumps({**GOOD, "studio": "north"})
    (row,) = parse_rows([line], PromptRow, "rows")
    assert json.loads(format_row(row))["studio"] == "north"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "row"),
        (json.dumps({**GOOD, "seed": -1}), "seed"),
        (json.dumps({**GOOD, "seed": "many"}), "seed"),
        (json.dumps({**GOOD, "id": "../up"}), "id"),
        (json.dumps({**GOOD, "age_interval": "12-17"}), "age_interval: Age interval 12-17 starts under 18"),
        (json.dumps({key: value for key, value in GOOD.items() if key != "prompt"}), "prompt"),
    ],
)
def test_a_bad_row_names_file_line_and_key(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError) as error:
        read_rows(file, PromptRow)
    assert f"{file}, line 3: " in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.png", "a/../../b.png", "..\\up.png", ""])
def test_outputs_stay_inside_their_folder(path: str) -> None:
    with pytest.raises(RecordError, match="line 1: output"):
        list(parse_rows([json.dumps({"source": "a", "reference": "b", "output": path})], PairRow, "pairs"))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"missing\.jsonl"):
        read_rows(tmp_path / "missing.jsonl", PromptRow)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(RecordError, match="not UTF-8"):
        read_rows(tmp_path / "latin.jsonl", PromptRow)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("before", encoding="utf-8")

    def rows() -> Any:
        yield prompt_rows(1)[0]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_rows(file, rows())
    with pytest.raises(TypeError):
        write_bytes(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_text(encoding="utf-8") == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]
