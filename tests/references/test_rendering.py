"""`facesyn references`: what lies in the folder, again and again the same, and usable by what comes after."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.banks import read_bank
from facesyn.errors import AssetError, UsageError
from facesyn.imaging import load_edge_map
from facesyn.references.assets import find_assets
from facesyn.references.edges import shape_of, spread_evenly
from facesyn.references.grooming import Fur, Hat
from facesyn.references.looks import KINDS
from facesyn.references.photographer import Equipment, Photographer
from facesyn.references.plans import Order, Shot
from facesyn.references.stream import ReferenceStream
from facesyn.references.styles import Pose, reference_style
from facesyn.rendered import StylePairs, read_renders
from facesyn.training.captions import attributes_of

Run = Any

ORDER = ["--identities", "2", "--styles", "3", "--size", "64", "--seed", "5"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, assets: Path, renderer: object) -> Path:
    from typer.testing import CliRunner

    from facesyn.cli import app

    folder = tmp_path_factory.mktemp("rendered") / "styles"
    maps = ["--map", "depth", "--map", "normals", "--map", "segmentation"]
    result = CliRunner().invoke(
        app, ["references", "render", *ORDER, *maps, "--assets", str(assets), "-o", str(folder)]
    )
    assert result.exit_code == 0, result.output
    return folder


def test_a_folder_is_a_bank_of_references_and_a_bank_of_edges(rendered: Path) -> None:
    bank, edges, portraits = read_bank(rendered), read_bank(rendered / "edges"), read_bank(rendered / "portraits")
    assert [picture.name for picture in bank] == [f"{i:06d}/{k:03d}.png" for i in range(2) for k in range(3)]
    assert len(edges) == len(portraits) == 2
    for picture in bank:
        assert Image.open(picture.path).size == (64, 64)
        assert picture.labels["age"] >= 18
        assert attributes_of(picture.labels)["hair_style"]
        assert np.array(picture.labels["landmarks"]).shape == (5, 2)
    for edge in edges:
        assert {"gender", "ethnicity", "age_interval", "landmarks"} <= edge.labels.keys()
        assert np.asarray(load_edge_map(edge.path)).max() == 255


def test_maps_have_the_shapes_of_their_pictures(rendered: Path) -> None:
    name = "000000/000.png"
    depth = np.asarray(Image.open(rendered / "depth" / name))
    normals = np.asarray(Image.open(rendered / "normals" / name))
    kinds = np.asarray(Image.open(rendered / "segmentation" / name))
    assert depth.dtype == np.uint16 and depth.shape == kinds.shape == (64, 64) and normals.shape == (64, 64, 3)
    assert ((depth > 0) == (kinds > 0)).all()
    label = json.loads((rendered / "metadata.jsonl").read_text().splitlines()[0])
    distance = depth[kinds > 0].mean() * 0.001
    assert abs(distance - label["camera_distance_dm"]) < 1.5
    there = normals[kinds == 1] / 127.5 - 1.0
    assert np.median(np.linalg.norm(there, axis=1)) == pytest.approx(1, abs=0.02)
    assert np.mean(there[:, 2] > 0) > 0.95, "skin that is seen faces the camera"


def test_pictures_are_marked_as_computed(rendered: Path) -> None:
    assert b"digitalsourcetype/algorithmicMedia" in (rendered / "000000" / "000.png").read_bytes()


def test_what_was_interrupted_goes_on_to_the_same_bytes(
    rendered: Path, tmp_path: Path, facesyn: Run, assets: Path
) -> None:
    command = ["references", "render", *ORDER, "--assets", assets, "-o", tmp_path / "again"]
    assert facesyn(*command).exit_code == 0
    made = contents(tmp_path / "again")
    assert made == {name: data for name, data in contents(rendered).items() if name in made}
    rows = (tmp_path / "again" / "metadata.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "again" / "metadata.jsonl").write_text("".join(rows[:2]) + rows[2][:40])
    (tmp_path / "again" / "000001" / "001.png").unlink()
    assert facesyn(*command).exit_code == 0
    assert contents(tmp_path / "again").keys() == made.keys()
    assert contents(tmp_path / "again")["000001/001.png"] == made["000001/001.png"]


def test_a_folder_made_otherwise_is_refused(rendered: Path, facesyn: Run, assets: Path) -> None:
    before = contents(rendered)
    result = facesyn("references", "render", *ORDER[:-1], "6", "--assets", assets, "-o", rendered)
    assert result.exit_code == 1
    assert "was made with another seed" in result.stderr
    assert contents(rendered) == before


def test_a_style_is_the_same_for_everybody_but_for_gender(photographer: Photographer) -> None:
    styles = photographer.planner._styles
    woman, man = styles.style(1, "female"), styles.style(1, "male")
    assert woman.pose == man.pose and woman.background == man.background and woman.quality == man.quality
    assert woman.beard.word == "none" != man.beard.word


def test_one_factor_is_exchanged_at_a_time(assets: Path, renderer: object) -> None:
    order = Order(identities=1, styles=2, vary=("pose", "light", "hair"))
    photographer = Photographer(Equipment(assets, 32), order)
    who = photographer.planner.identity(0)
    plain = photographer.planner.portrait(who).style
    shots = list(photographer.planner.shots(who))
    assert [shot.facts["varied"] for shot in shots] == ["pose", "pose", "light", "light", "hair", "hair"]
    for shot in shots:
        for factor in ("pose", "expression", "background", "clothing", "hair", "quality"):
            if factor != shot.facts["varied"]:
                assert getattr(shot.style, factor) == getattr(plain, factor)


def test_a_varied_factor_differs_where_it_can(assets: Path, renderer: object) -> None:
    order = Order(identities=1, styles=3, vary=("glasses", "quality", "hat"))
    photographer = Photographer(Equipment(assets, 32), order)
    who = photographer.planner.identity(0)
    plain = photographer.planner.portrait(who).style
    for shot in photographer.planner.shots(who):
        assert getattr(shot.style, shot.facts["varied"]) != getattr(plain, shot.facts["varied"])


def test_the_grid_holds_every_camera_flash_and_expression_once(assets: Path, renderer: object) -> None:
    order = Order(identities=1, styles=1, grid="multi-pie", expressions=("neutral", "scream"))
    photographer = Photographer(Equipment(assets, 32), order)
    shots = list(photographer.planner.shots(photographer.planner.identity(0)))
    cells = {(shot.style.camera.name, shot.facts["flash"], shot.style.expression.name) for shot in shots}
    assert len(shots) == len(cells) == order.shots_per_identity == 15 * 20 * 2
    side = next(shot for shot in shots if shot.name.endswith("neutral_01_0_07"))
    labels = photographer.take(side).labels
    assert (labels["yaw"], labels["pitch"], labels["camera"]) == (-75.0, 0.0, "01_0")
    towards = labels["light"]["directions"][0]  # the frontal flash stands still while the camera walks round
    assert towards == pytest.approx([-np.sin(np.radians(75)), 0, np.cos(np.radians(75))], abs=0.01)


@pytest.mark.parametrize("brim", [0.0, 0.6])
def test_a_hat_covers_the_hair_and_moves_nothing(photographer: Photographer, brim: float) -> None:
    from dataclasses import replace

    hat = Hat("cap" if brim else "beanie", (60, 70, 110), (200, 190, 180), rise=0.0, loose=0.1, brim=brim)
    for number, cut in ((0, "afro01"), (1, "long01"), (2, None)):
        who = photographer.planner.identity(number)
        plain = reference_style(who)
        fur = None if cut else Fur(length=0.2, density=0.95)
        plain = replace(plain, hair=replace(plain.hair, cut=cut or "crop", mesh=cut, fur=fur), pose=Pose(20))
        bare, worn = (photographer.take(Shot("x", who, style)) for style in (plain, replace(plain, hat=hat)))
        moved = {name for name in bare.labels if bare.labels[name] != worn.labels[name]}
        assert moved == {"hat", "caption"} and worn.labels["hat"] == hat.word in worn.labels["caption"]
        scene = photographer._poser.scene(who, replace(plain, hat=hat))
        geometry = photographer._studio.expose(scene, 64, geometry=True).geometry
        assert geometry is not None
        head = slice(*sorted(int(x * 64) for x in scene.landmarks[:2, 0]))  # between the eyes, from the top down
        top = [int(column[column > 0][0]) for column in geometry.kind[:, head].T]
        assert set(top) == {KINDS.index("hat")}
        assert (geometry.kind == KINDS.index("hat")).sum() > 200


def test_hats_hang_on_every_head(photographer: Photographer) -> None:
    """No vertex of a head wider or longer than the reference comes through the crown of its hat."""
    from scipy.spatial import cKDTree

    from facesyn.references.hats import Hatter, rim

    head = photographer._poser.head
    hat = Hat("beanie", (60, 70, 110), (60, 70, 110), rise=0.0, loose=0.05, brim=0.0)
    part, plane = Hatter(head).part(hat), rim(hat)
    covered = head.skin.positions(head.reference) @ plane.normal > plane.height + 0.1
    for number in range(4):
        base = head.morph(photographer.planner.identity(number).targets)
        crown, skin = part.positions(base), head.skin.positions(base)[covered]
        nearest = cKDTree(crown).query(skin)[1]
        outwards = part.normals(crown)[nearest]
        assert ((crown[nearest] - skin) * outwards).sum(1).min() > 0


def test_long_cropped_hair_has_no_holes(photographer: Photographer) -> None:
    """Its shell is thin where it ends, above the ears, but one does not look through it to what is behind the head."""
    from dataclasses import replace

    from scipy.ndimage import binary_dilation, label

    who = photographer.planner.identity(0)
    plain = reference_style(who)
    hair = replace(plain.hair, cut="crop", mesh=None, hairline=None, fur=Fur(length=0.24, density=0.95))
    for yaw in (0, 20, -60):
        style = replace(plain, hair=hair, pose=Pose(yaw))
        exposure = photographer._studio.expose(photographer._poser.scene(who, style), 256, geometry=True)
        assert exposure.geometry is not None
        areas, _ = label(exposure.rgba[..., 3] < 0.5)
        outside = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
        holes = (areas > 0) & ~np.isin(areas, outside)
        assert not (binary_dilation(holes) & (exposure.geometry.kind == KINDS.index("hair"))).any()


def test_streams_do_not_depend_on_the_number_of_workers(assets: Path, renderer: object) -> None:
    equipment, order = Equipment(assets, 32), Order(identities=2, styles=2, seed=2)
    here, elsewhere = (list(ReferenceStream(equipment, order, 4, workers=workers)) for workers in (0, 1))
    assert [len(batch) for batch in here] == [4, 2]
    for first, second in zip(here, elsewhere, strict=True):
        assert first.labels == second.labels
        assert (first.images == second.images).all()


def test_an_endless_stream_brings_new_people(assets: Path, renderer: object) -> None:
    stream = iter(ReferenceStream(Equipment(assets, 32), Order(1, 1), 2, endless=True))
    first, second = next(stream), next(stream)
    assert first.labels[0]["targets"] != second.labels[0]["targets"]


def test_every_style_is_worn_about_equally_often(assets: Path, renderer: object) -> None:
    photographer = Photographer(Equipment(assets, 32), Order(identities=8, styles=10, per_identity=5))
    worn = [style for number in range(8) for style in photographer.planner._drawn(number)]
    counts = np.bincount(worn, minlength=10)
    assert counts.sum() == 40 and counts.max() - counts.min() <= 1
    for number in range(8):
        assert len(set(photographer.planner._drawn(number))) == 5


def test_edges_of_any_folder_and_of_renders(rendered: Path, tmp_path: Path, facesyn: Run) -> None:
    result = facesyn("references", "edges", rendered / "portraits", "-n", "1", "-o", tmp_path / "edges")
    assert result.exit_code == 0, result.output
    (edge,) = read_bank(tmp_path / "edges")
    assert edge.labels["edges"]["inner_face"]
    rows = [json.loads(line) for line in (rendered / "portraits" / "metadata.jsonl").read_text().splitlines()]
    rows[1]["yaw"] = 40.0
    shutil.copytree(rendered / "portraits", tmp_path / "turned")
    (tmp_path / "turned" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert facesyn("references", "edges", tmp_path / "turned", "--whole", "-o", tmp_path / "whole").exit_code == 0
    (only,) = read_bank(tmp_path / "whole")
    assert only.labels["source"] == "000000.png" and not only.labels["edges"]["inner_face"]


def test_shapes_are_chosen_far_apart() -> None:
    rng = np.random.default_rng(0)
    crowd = np.concatenate([rng.normal(centre, 0.01, (20, 2)) for centre in ((0, 0), (5, 0), (0, 5), (5, 5))])
    chosen = spread_evenly(crowd, 4)
    assert {index // 20 for index in chosen} == {0, 1, 2, 3}
    assert spread_evenly(crowd, 8)[:4] == chosen
    assert shape_of(Image.new("L", (64, 64))).sum() == 0


def test_missing_assets_are_named_with_where_to_get_them(tmp_path: Path, facesyn: Run) -> None:
    result = facesyn("references", "render", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "FACESYN_ASSETS" in result.stderr and "makehumancommunity" in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "data" / "3dobjs").mkdir(parents=True)
    (tmp_path / "data" / "3dobjs" / "base.obj").write_text("v 0 0 0\n")
    with pytest.raises(AssetError, match=r"lacks skins.*targets"):
        find_assets(tmp_path)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"grid": "multi-pi"}, "multi-pie"),
        ({"vary": ("poses",)}, "pose"),
        ({"expressions": ("smil",)}, "smile"),
        ({"per_identity": 9}, "styles"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as error:
        Order(**({"identities": 1, "styles": 2} | wrong))  # type: ignore[arg-type]
    assert said in f"{error.value} {error.value.hint}"


def test_a_training_renders_its_own_data(
    assets: Path, renderer: object, shared: Path, facesyn: Run, tmp_path: Path
) -> None:
    few = tmp_path / "val"
    few.mkdir()
    shutil.copy(sorted((shared / "data" / "renders").glob("*.tar"))[0], few)
    people = ["--identities", "2", "--styles", "3", "--threads", "1"]
    steps = ["--steps", "1", "--batch-size", "2", "--held-out", few, "-o", tmp_path / "run"]
    result = facesyn("train", "landmarker", "--data", assets, *people, *steps)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_a_training_reads_what_references_render_wrote(
    assets: Path, renderer: object, facesyn: Run, tmp_path: Path
) -> None:
    for name, seed in (("data", 1), ("unseen", 2)):
        size = ("--identities", 2, "--styles", 3, "--seed", seed, "--size", 64)
        assert facesyn("references", "render", *size, "--assets", assets, "-o", tmp_path / name).exit_code == 0
    faces = read_renders(tmp_path / "data")
    assert faces.images.shape == (8, 64, 64, 3) and len(faces.sources) == 2 and len(StylePairs.of(faces.labels)) == 6
    words = ("--steps", 1, "--batch-size", 2, "--threads", 1, "-o", tmp_path / "run")
    folders = ("--data", tmp_path / "data", "--held-out", tmp_path / "unseen")
    result = facesyn("train", "landmarker", *folders, *words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_data_that_is_neither_shards_nor_assets_is_refused(shared: Path, facesyn: Run, tmp_path: Path) -> None:
    held_out = shared / "data" / "renders"
    result = facesyn("train", "landmarker", "--data", tmp_path, "--held-out", held_out, "-o", tmp_path / "run")
    assert result.exit_code == 1 and "MakeHuman data folder" in result.stderr
    assert not (tmp_path / "run").exists()
