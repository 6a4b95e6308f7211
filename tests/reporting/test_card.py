"""The dataset card: front matter the hub reads, only what was measured, nothing overwritten that is not ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from facesyn.dataset.recipe import load_recipe
from facesyn.errors import RunError
from facesyn.reporting.card import shape_of, size_category, write_card

from .conftest import IMAGES, MARKUP, PEOPLE


def front(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_is_what_the_hub_reads(run_folder: Path) -> None:
    text = write_card(run_folder, "cc-by-4.0").read_text(encoding="utf-8")
    said = front(text)
    assert said["license"] == "cc-by-4.0" and said["size_categories"] == ["n<1K"]
    assert said["task_categories"] == ["image-classification"] and "synthetic" in said["tags"]
    assert write_card(run_folder, "cc-by-4.0").read_text(encoding="utf-8") == text
    assert "license" not in front(write_card(run_folder).read_text(encoding="utf-8"))


def test_the_hub_s_library_loads_the_folder_by_its_card(run_folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="loading needs datasets")
    write_card(run_folder)
    loaded = datasets.load_dataset(str(run_folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == (PEOPLE - 2) * IMAGES + 31
    assert loaded[0]["identity"] == "000000" and loaded[0]["image"].size == (48, 48)


def test_only_what_was_measured_is_said(run_folder: Path) -> None:
    text = write_card(run_folder).read_text(encoding="utf-8")
    assert "| Similarity to the source | 205 |" in text and "Sharpness" not in text
    assert "No classifier judged" in text and "not held to their source's identity" in text
    assert "Not plainly free for commercial use: mini" in text  # its hash is not the bundle's
    assert "1 cells fell short" in text and "4 pictures were refused" in text
    assert f"| {MARKUP}" not in text


def test_a_card_of_somebody_else_is_left_alone(run_folder: Path) -> None:
    (run_folder / "README.md").write_text("# Mine\n")
    with pytest.raises(RunError, match="is not a card of facesyn"):
        write_card(run_folder)
    assert (run_folder / "README.md").read_text() == "# Mine\n"


def test_a_paper_s_name_is_a_shape_unless_its_references_are_known() -> None:
    casia = load_recipe("syn-casia")
    said = shape_of(casia)
    assert said and said.startswith("Syn-CASIA-shaped") and "references of mini" in said
    own = shape_of(casia.with_banks(references="/data/my_faces"))
    assert own and "the folder my\\_faces" in own and "/data" not in own
    assert shape_of(load_recipe("demo")) is None


def test_sizes_have_the_hub_s_names() -> None:
    assert [size_category(n) for n in (999, 1000, 500_000, 5_000_000)] == [
        "n<1K",
        "1K<n<10K",
        "100K<n<1M",
        "1M<n<10M",
    ]


def test_the_command_prints_where_the_card_is(facesyn: Callable[..., Any], run_folder: Path) -> None:
    result = facesyn("dataset", "card", run_folder)
    assert result.exit_code == 0 and result.stdout == f"{run_folder / 'README.md'}\n"
