"""The report's numbers, pictures and page; what it refuses; the same bytes for the same dataset."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facesyn.errors import RunError
from facesyn.reporting import page
from facesyn.reporting.atlases import SHEET, STRIP, TILE
from facesyn.reporting.figures import begin, open_run, people, shown_figures
from facesyn.reporting.page import inert, write_report

from .conftest import ETHNICITIES, IMAGES, MARKUP, PEOPLE


def block(text: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return found[1]


def numbers_of(path: Path) -> Any:
    folder, recipe = open_run(path)
    numbers = begin(folder, recipe)
    for person in people(folder):
        numbers.add(person)
    return numbers


def test_people_are_counted_as_asked_and_as_made(small_run: Path) -> None:
    numbers = numbers_of(small_run)
    assert (numbers.identities, numbers.images) == (PEOPLE - 1, (PEOPLE - 2) * IMAGES + 31)
    assert sum(cell.identities_asked for cell in numbers.cells.values()) == PEOPLE
    assert numbers.refused == {("generate", "unique"): 4} and numbers.refusals.total() == 4
    balance = numbers.balance()
    assert balance["cells"]["degrees_of_freedom"] == 7 and balance["cells"]["chi_squared"] > 0
    assert balance["gender"]["degrees_of_freedom"] == 1


def test_only_what_was_measured_has_a_figure(small_run: Path) -> None:
    figures = {figure.title: figure for figure in shown_figures(numbers_of(small_run))}
    assert "Sharpness" not in figures  # no row tells of it
    similar = figures["Similarity to the style reference"]
    assert [limit.value for limit in similar.limits] == [0.81]
    assert figures["Similarity to the source"].limits == []
    nearest = figures["Similarity to the nearest other person"]
    assert len(nearest.accepted) == PEOPLE - 2  # the first has nobody to resemble
    assert sum(nearest.counts()[0]) == PEOPLE - 2 and sum(nearest.counts()[1]) == 4


def test_the_page_holds_everything_itself_and_is_the_same_twice(run_folder: Path) -> None:
    written = write_report(run_folder)
    first = written.page.read_bytes()
    assert written.atlases is None and not (run_folder / page.PLACE).exists()
    assert write_report(run_folder).page.read_bytes() == first
    text = first.decode()
    assert "http" not in re.sub(r"data:image[^\"]*", "", text).replace("http-equiv", "")
    assert str(run_folder) not in text
    data = json.loads(block(text, "data"))
    assert len(data["people"]) == PEOPLE - 1 and len(data["sheets"]) == 1
    assert len(block(text, "details").splitlines()) == PEOPLE - 1


def test_tiles_show_the_pictures_they_stand_for(run_folder: Path) -> None:
    text = write_report(run_folder).page.read_text(encoding="utf-8")
    data = json.loads(block(text, "data"))
    details = [json.loads(line) for line in block(text, "details").splitlines()]

    def picture(uri: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")

    sheet = picture(data["sheets"][0])
    assert sheet.size == (TILE * SHEET, TILE * 4)
    for index in (0, 20, 58):
        row, column = divmod(index, SHEET)
        number = int(data["people"][index][0])
        red, green, _ = sheet.getpixel((column * TILE + 4, row * TILE + 4))
        assert abs(red - 4 * number) < 12 and abs(green - (255 - 4 * number)) < 12
        strip = picture(details[index]["strip"])
        assert strip.size == (TILE * (1 + IMAGES), TILE * 2)
        assert abs(strip.getpixel((TILE * 2 + TILE // 2, TILE + TILE // 2))[0] - 80) < 12  # style1.png
    assert len(details[1]["images"]) == STRIP and details[1]["asked"] == 31
    assert details[0]["seed"] == str(2**62)


def test_text_cannot_become_markup(run_folder: Path) -> None:
    text = write_report(run_folder).page.read_text(encoding="utf-8")
    assert MARKUP not in text
    assert text.count("<script") == 3 == text.count("</script>")
    assert json.loads(inert([MARKUP, "a & b"])) == [MARKUP, "a & b"]
    assert ETHNICITIES[1] in json.loads(block(text, "data"))["cells"][4]


def test_large_reports_keep_their_pictures_beside_the_page(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "INLINE_LIMIT", 1000)
    written = write_report(run_folder)
    assert written.atlases == run_folder / "report-atlases"
    text = written.page.read_text(encoding="utf-8")
    assert "data:image" not in text.partition("<body>")[2]
    details = [json.loads(line) for line in block(text, "details").splitlines()]
    for address in (*json.loads(block(text, "data"))["sheets"], *(each["strip"] for each in details)):
        assert (run_folder / address).is_file()
    monkeypatch.undo()
    assert write_report(run_folder).atlases is None
    assert not written.atlases.exists()  # nothing is left of the larger one


def test_a_changed_bank_is_not_shown_as_what_it_was(run_folder: Path) -> None:
    provenance = json.loads((run_folder / "provenance.json").read_text())
    provenance["references"] = "22" * 32
    (run_folder / "provenance.json").write_text(json.dumps(provenance))
    text = write_report(run_folder).page.read_text(encoding="utf-8")
    strip = json.loads(block(text, "details").splitlines()[0])["strip"]
    shown = Image.open(io.BytesIO(base64.b64decode(strip.partition(",")[2]))).convert("RGB")
    assert max(abs(value - 128) for value in shown.getpixel((TILE + 48, TILE + 48))) < 8
    assert text.count("<td>unknown</td>") >= 3  # nor do weights with another hash have its licence


def test_what_is_no_finished_dataset_is_refused(facesyn: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    result = facesyn("dataset", "report", tmp_path)
    assert result.exit_code == 1 and "is no dataset of facesyn" in result.stderr
    (run_folder / "images" / "metadata.jsonl").unlink()
    with pytest.raises(RunError, match="not finished: images/metadata.jsonl is missing"):
        write_report(run_folder)
    assert not (run_folder / "report.html").exists()


def test_a_missing_picture_leaves_nothing_half_written(facesyn: Callable[..., Any], run_folder: Path) -> None:
    (run_folder / "images" / "000030" / "001.png").unlink()
    before = sorted(file.name for file in run_folder.iterdir())
    result = facesyn("dataset", "report", run_folder)
    assert result.exit_code == 1 and "000030/001.png" in result.stderr
    assert sorted(file.name for file in run_folder.iterdir()) == before
