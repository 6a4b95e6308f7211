"""Entry points by role. A distribution is a folder with metadata on sys.path, as an installed one is."""

from pathlib import Path

import pytest

from facesyn import registry
from facesyn.errors import BackendError, UsageError
from facesyn.protocols import PromptWriter
from facesyn.registry import Role

MODULE = """
from facesyn.errors import UsageError

class Writer:
    def __init__(self, tone="dry", length: int = 3):
        if length < 1:
            raise UsageError("Length must be 1 or more.")
        self.tone = tone
    def write(self, cells, *, seed, first=0):
        yield from ()

class Dumb:
    pass

class Absent:
    @classmethod
    def why_unavailable(cls):
        return "It needs a pen"

class Open(Writer):
    def __init__(self, **options):
        self.options = options
"""

ENTRY_POINTS = """
[facesyn.prompters]
writer = strangers:Writer
dumb = strangers:Dumb
absent = strangers:Absent
open = strangers:Open
gone = strangers.gone:Writer
template = strangers:Writer

[facesyn.classifiers]
nothing = strangers:Nothing
"""


def install(site: Path, name: str, entry_points: str) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nProvides-Extra: absent\n", encoding="utf-8"
    )
    (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "strangers.py").write_text(MODULE, encoding="utf-8")
    install(tmp_path, "strangers", ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_every_role_has_a_group_and_a_protocol() -> None:
    assert {role.group for role in Role} >= {"facesyn.prompters", "facesyn.detectors", "facesyn.classifiers"}
    assert all(role.protocol.__module__ == "facesyn.protocols" for role in Role)


def test_in_tree_backends_are_registered_as_a_strangers_are(site: Path) -> None:
    assert {"template", "writer"} <= set(registry.names(Role.PROMPTER))
    assert {entry.package for entry in registry.entries(Role.PROMPTER)} == {"facesyn", "strangers"}
    assert {"clip", "mini", "nothing"} <= set(registry.names("classifier"))


def test_a_distribution_with_broken_metadata_does_not_break_the_listing(site: Path) -> None:
    install(site, "rubble", "[facesyn.prompters\nthis is = = no entry point\nnor this\n")
    assert "writer" in registry.names(Role.PROMPTER)


def test_a_backend_is_made_with_its_options(site: Path) -> None:
    writer = registry.create(Role.PROMPTER, "writer", {"tone": "warm"})
    assert isinstance(writer, PromptWriter) and writer.tone == "warm"  # type: ignore[attr-defined]
    assert registry.create(Role.PROMPTER, "open", {"anything": 1}).options == {"anything": 1}
    with pytest.raises(UsageError, match="1 or more"):
        registry.create(Role.PROMPTER, "writer", {"length": 0})


def test_an_unknown_name_gets_a_suggestion(site: Path) -> None:
    with pytest.raises(UsageError, match="no prompter backend called 'writr'") as error:
        registry.load(Role.PROMPTER, "writr")
    assert error.value.hint and "Did you mean 'writer'?" in error.value.hint
    with pytest.raises(UsageError) as error:
        registry.load(Role.DETECTOR, "retinaface")
    assert error.value.hint == "Installed: haar, yunet."


def test_an_unknown_option_gets_a_suggestion(site: Path) -> None:
    with pytest.raises(UsageError, match="no option 'tones'") as error:
        registry.create(Role.PROMPTER, "writer", {"tones": 1})
    assert error.value.hint == "Did you mean 'tone'? Its options: tone, length."


def test_an_option_of_another_kind_is_named(site: Path) -> None:
    with pytest.raises(
        UsageError, match="Option 'length' of the prompter backend 'writer' is a whole number, not 'abc'"
    ):
        registry.create(Role.PROMPTER, "writer", {"length": "abc"})
    for wrong in ({"steps": "abc"}, {"identity_scale": "abc"}, {"identity_from": 0.5}, {"compile": "no"}):
        with pytest.raises(UsageError, match=f"Option '{next(iter(wrong))}' of the transfer backend 'auto' is"):
            registry.create(Role.TRANSFER, "auto", wrong)


def test_what_cannot_run_says_why(site: Path) -> None:
    reasons = {entry.name: registry.why_unavailable(entry) for entry in registry.entries(Role.PROMPTER)}
    assert reasons["writer"] is None
    assert "No module named 'strangers.gone'" in (reasons["gone"] or "")
    assert "It needs a pen. pip install 'strangers[absent]'" in (reasons["absent"] or "")
    with pytest.raises(BackendError, match="AttributeError"):
        registry.load(Role.CLASSIFIER, "nothing")


def test_a_backend_that_breaks_its_protocol_is_refused(site: Path) -> None:
    with pytest.raises(BackendError, match=r"does not satisfy facesyn\.protocols\.PromptWriter"):
        registry.create(Role.PROMPTER, "dumb")


def test_two_packages_may_not_share_a_name(site: Path) -> None:
    with pytest.raises(BackendError, match="registered by facesyn and strangers"):
        registry.load(Role.PROMPTER, "template")
