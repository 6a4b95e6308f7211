"""Report and card of a dataset as the build leaves it, here without gates and with a stranger's backends."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_built_dataset_has_a_report_and_a_card_and_is_still_complete(
    facesyn: Callable[..., Any], finished: Path, tmp_path: Path, hashes: Callable[[Path], dict[str, str]]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "people"))
    for command in ("report", "card"):
        result = facesyn("dataset", command, folder)
        assert result.exit_code == 0, result.stderr
    after, before = hashes(folder), hashes(finished)
    assert {name for name in after if after[name] != before.get(name)} == {"report.html", "README.md"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="gates"' not in page and "Similarity to the source" in page  # there were none, and it was measured
    assert "<td>unknown</td>" in page  # a stranger's backend states no licence
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "No gates were in force" in card and "Nobody checked that people differ" in card
