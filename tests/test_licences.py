"""Licences: read from cards and texts, judged for commercial use, refused before any work. Unknown is not yes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesyn.errors import UsageError
from facesyn.licences import Part, Use, check_commercial, commercial_use, licence_of, recipe_chain

APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("apache-2.0", Use.ALLOWED),
        ("MIT", Use.ALLOWED),
        ("cc0-1.0", Use.ALLOWED),
        ("creativeml-openrail-m", Use.RESTRICTED),
        ("openrail++", Use.RESTRICTED),
        ("cc-by-nc-4.0", Use.FORBIDDEN),
        ("cc-by-nc-sa-4.0", Use.FORBIDDEN),
        ("stabilityai-non-commercial", Use.FORBIDDEN),
        ("other", Use.UNKNOWN),
        ("unknown", Use.UNKNOWN),
        ("", Use.UNKNOWN),
    ],
)
def test_what_a_licence_says_of_commercial_use(licence: str, use: Use) -> None:
    assert commercial_use(licence) is use


@pytest.mark.parametrize(
    ("file", "text", "licence"),
    [
        ("README.md", "---\ntags:\n- face\nlicense: mit\n---\n# Model\n", "mit"),
        ("README.md", '---\nlicense: "cc-by-nc-4.0"\n---\n', "cc-by-nc-4.0"),
        ("README.md", "---\nlicense:\n- mit\n---\n", "unknown"),
        ("README.md", "license: mit\n", "unknown"),
        ("LICENSE", APACHE, "apache-2.0"),
        ("LICENSE.md", "CreativeML Open RAIL-M\ndated August 22, 2022", "creativeml-openrail-m"),
        ("LICENCE.txt", "Creative Commons Attribution-NonCommercial 4.0 International", "cc-by-nc"),
        ("LICENSE", "All rights reserved.", "unknown"),
        ("weights.bin", "", "unknown"),
    ],
)
def test_a_folder_is_licensed_as_its_card_or_licence_file_says(
    tmp_path: Path, file: str, text: str, licence: str
) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert licence_of(str(tmp_path)) == licence


def test_bundles_say_it_themselves_and_what_is_nowhere_is_unknown() -> None:
    assert licence_of("mini") == "Apache-2.0"
    assert licence_of("somebody/not-in-the-cache") == "unknown"
    assert licence_of("no such thing") == "unknown"


def test_restrictions_of_use_are_told_and_the_first_refusal_names_model_and_licence() -> None:
    fine, rail = Part("transfer", "mini", "Apache-2.0"), Part("generator", "diffusion", "openrail++")
    assert check_commercial([fine, rail]) == [rail]
    with pytest.raises(
        UsageError, match=r"^packs \(encoder\) is licensed under cc-by-nc-4.0, which forbids commercial"
    ):
        check_commercial([fine, Part("encoder", "packs", "cc-by-nc-4.0")])
    with pytest.raises(UsageError, match=r"^packs \(encoder\) does not state its licence"):
        check_commercial([Part("encoder", "packs", "unknown"), rail])


def test_the_chain_of_a_recipe_names_every_model_and_bank() -> None:
    from facesyn.dataset.recipe import load_recipe

    chain = recipe_chain(load_recipe("demo"))
    assert {"prompter", "generator", "transfer", "encoder", "edges", "references", "detector", "landmarker"} <= {
        part.role for part in chain
    }
    assert all(part.use is Use.ALLOWED for part in chain)


@pytest.mark.parametrize(
    ("licence", "code", "says"),
    [
        ("apache-2.0", 0, ""),
        ("creativeml-openrail-m", 0, "model (generator) allows commercial use with restrictions of use"),
        ("cc-by-nc-4.0", 2, "model (generator) is licensed under cc-by-nc-4.0, which forbids commercial use."),
        ("", 2, "model (generator) does not state its licence"),
    ],
)
def test_a_commercial_build_refuses_before_any_work(
    facesyn: Callable[..., Any], tmp_path: Path, licence: str, code: int, says: str
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "README.md").write_text(f"---\nlicense: {licence}\n---\n" if licence else "# A model\n")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'name = "own"\nidentities = 4\nimages = 2\n[generate]\nmodel = "{model}"\ncontrolnet = "mini"\n'
        '[encoder]\nbackend = "mini"\n'
    )
    result = facesyn("dataset", "build", recipe, "-o", tmp_path / "out", "--commercial", "--dry-run")
    assert result.exit_code == code and says in result.stderr
    if code:
        assert str(tmp_path) not in result.stderr and not result.stdout
    assert not (tmp_path / "out").exists()


def test_generate_and_transfer_refuse_too(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(facesyn("prompts", "-n", 1).stdout)
    result = facesyn("generate", rows, "-o", tmp_path / "faces", "--model", model, "--commercial")
    assert result.exit_code == 2 and "model (generator) does not state its licence" in result.stderr
    faces = tmp_path / "faces"
    faces.mkdir()
    from PIL import Image

    Image.new("RGB", (64, 64)).save(faces / "a.png")
    result = facesyn("transfer", faces, "-o", tmp_path / "people", "--commercial")
    assert result.exit_code == 2 and "faces (faces) does not state its licence" in result.stderr
    assert not (tmp_path / "people").exists()
