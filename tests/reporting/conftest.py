"""A small finished run folder, made row by row as a gated build makes it, with text that wants to be markup."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from facesyn.banks import digest, read_bank
from facesyn.dataset.plan import PlanRow
from facesyn.dataset.recipe import format_recipe, parse_recipe
from facesyn.dataset.run_folder import RunFolder
from facesyn.dataset.shard import ImageRow, RejectedRow, SourceRow
from facesyn.imaging import encode_png
from facesyn.marking import Made
from facesyn.records import Row, write_rows

MARKUP = "</script><script>document.title='owned'</script>"
ETHNICITIES = ("African", MARKUP)
PEOPLE = 60
IMAGES = 3

RECIPE = """
name = "small"
identities = {people}
images = {images}
[demographics]
ethnicities = {ethnicities}
genders = ["female", "male"]
age_intervals = ["18-29", "30-60"]
[transfer]
references = {bank}
[encoder]
backend = "mini"
[gates]
identity = false
"""


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed. Person 7 was refused to the end; person 1 has 31 images, more than a strip shows."""
    path = tmp_path_factory.mktemp("small") / "run"
    bank = path.parent / "styles"
    bank.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 30), (80 * number, 90, 200)).save(bank / f"style{number}.png")
    recipe = parse_recipe(
        RECIPE.format(
            people=PEOPLE, images=IMAGES, ethnicities=json.dumps(list(ETHNICITIES)), bank=json.dumps(str(bank))
        ),
        "small",
    )
    folder = RunFolder(path)
    for place in (folder.sources, folder.images):
        place.mkdir(parents=True)
    folder.recipe.write_text(format_recipe(recipe), encoding="utf-8")
    cells = recipe.demographics.to_demographics().plan(PEOPLE, 0)
    plan = [
        PlanRow(
            id=f"{number:06d}",
            shard=number // 4,
            ethnicity=cell.ethnicity,
            gender=cell.gender,
            age_interval=str(cell.age_interval),
            edge_map="0.png",
            face_seed=2**62 + number,
            references=[f"style{style % 3}.png" for style in range(31 if number == 1 else IMAGES)],
        )
        for number, cell in enumerate(cells)
    ]
    sources, images = [], []
    for number, row in enumerate(plan):
        if number == 7:
            continue
        who = {"identity": row.id, "ethnicity": row.ethnicity, "gender": row.gender, "age_interval": row.age_interval}
        picture = Image.new("RGB", (48, 48), (4 * number, 255 - 4 * number, 128))
        ImageDraw.Draw(picture).ellipse((12, 8, 36, 42), fill=(200, 160, 4 * number))
        made = Made(row.id, row.face_seed, "ab" * 32)
        (folder.sources / f"{row.id}.png").write_bytes(encode_png(picture, made=made))
        gates = {"contrast": 30.0 + number / 7, "turn": number / 5, "unique": -1.0 if number == 0 else 0.01 * number}
        prompt = {"prompt": f"portrait {number} {MARKUP}", "negative_prompt": ""}
        said = {"edge_map": "0.png", "face_seed": row.face_seed, "attempt": 0, "gates": gates}
        sources.append(SourceRow(file_name=f"{row.id}.png", **who, **prompt, **said))
        (folder.images / row.id).mkdir()
        for image, reference in enumerate(row.references):
            name = f"{row.id}/{image:03d}.png"
            (folder.images / name).write_bytes(encode_png(picture.rotate(20 * image), made=made))
            cosines = {"source_similarity": 0.5 + number / 200, "reference_similarity": 0.1 * image % 0.8}
            images.append(ImageRow(file_name=name, reference=reference, transfer_seed=image, **who, **cosines))
    write_rows(folder.plan, plan)
    write_rows(folder.source_rows, sources)
    write_rows(folder.metadata, images)
    refused = {"stage": "generate", "identity": "000007", "gates": {"unique": 0.99}, "rejected_by": ["unique"]}
    write_rows(
        folder.rejected,
        [RejectedRow.model_validate(refused | {"attempt": n, "seed": n, "nearest": "000001"}) for n in range(4)],
    )
    short = {"identities": 6, "identities_asked": 7, "images": 18, "images_asked": 21}
    cell = {"ethnicity": plan[7].ethnicity, "gender": plan[7].gender, "age_interval": plan[7].age_interval}
    write_rows(folder.shortfalls, [Row.model_validate(cell | short)])
    provenance = {
        "facesyn": "0.1.0",
        "references": digest(read_bank(bank)),
        "generator": {"backend": "diffusers", "model": {"name": "mini", "sha256": "00" * 32}, "steps": 3},
        "encoder": {"backend": "mini", "sha256": "11" * 32},
        "gates": {"enabled": True, "leakage": {"threshold": 0.81, "fmr": 0.001}},
    }
    folder.provenance.write_text(json.dumps(provenance), encoding="utf-8")
    return path


@pytest.fixture
def run_folder(small_run: Path, tmp_path: Path) -> Path:
    """A copy, to be written into."""
    import shutil

    return Path(shutil.copytree(small_run, tmp_path / "run"))
