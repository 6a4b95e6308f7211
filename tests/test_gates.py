"""Gates: planted faults are caught one by one, and the stages keep what they refuse."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from facesyn.errors import UsageError
from facesyn.gates import measures
from facesyn.gates.keeper import Keeper, rejected_by
from facesyn.gates.settings import GateSettings
from facesyn.identity.encoders import calibration_of, open_classifier, open_encoder
from facesyn.identity.uniqueness import UniquenessIndex
from facesyn.imaging import list_images, load_image
from facesyn.records import FaceRow, TransferRow, read_rows

BANK = Path(__file__).parents[1] / "backends" / "mini" / "references"


@pytest.fixture(scope="module")
def faces() -> list[Image.Image]:
    """Rendered faces of the embedded bank that look ahead, in soft light."""
    rows = [json.loads(line) for line in (BANK / "metadata.jsonl").read_text().splitlines()]
    ahead = [row["file_name"] for row in rows if abs(row["yaw"]) < 12 and abs(row["pitch"]) < 10]
    return [load_image(BANK / name) for name in ahead[:12]]


@pytest.fixture(scope="module")
def keeper() -> Keeper:
    return Keeper(GateSettings(), 64, open_encoder("mini"))


def refused(keeper: Keeper, *pictures: Image.Image) -> list[list[str]]:
    return [rejected_by(each) for each in keeper.examine_sources(pictures, [{}] * len(pictures))]


def test_most_good_faces_are_let_in(keeper: Keeper, faces: Sequence[Image.Image]) -> None:
    assert sum(not reasons for reasons in refused(keeper, *faces)) >= len(faces) * 2 / 3


def test_black_white_and_blurred_pictures_are_refused(keeper: Keeper, faces: Sequence[Image.Image]) -> None:
    black, white = (Image.new("RGB", (128, 128), colour) for colour in ("black", "white"))
    blurred = faces[0].filter(ImageFilter.GaussianBlur(9))
    reasons = refused(keeper, black, white, blurred)
    assert all({"contrast", "sharpness", "faces"} <= set(each) for each in reasons[:2]) and "sharpness" in reasons[2]


def test_a_picture_of_two_faces_is_refused(keeper: Keeper, faces: Sequence[Image.Image]) -> None:
    single = [face for face, reasons in zip(faces, refused(keeper, *faces), strict=True) if not reasons]
    two = Image.new("RGB", (256, 256), "gray")
    two.paste(single[0], (0, 64))
    two.paste(single[1], (128, 64))
    (reasons,) = refused(keeper, two)
    assert "faces" in reasons


def test_a_profile_is_no_source(keeper: Keeper) -> None:
    rows = [json.loads(line) for line in (BANK / "metadata.jsonl").read_text().splitlines()]
    turned = [load_image(BANK / row["file_name"]) for row in rows if abs(row["yaw"]) > 40][:6]
    assert turned and all("turn" in reasons for reasons in refused(keeper, *turned))


def test_a_duplicated_person_is_refused(keeper: Keeper, faces: Sequence[Image.Image]) -> None:
    embeddings = open_encoder("mini").embed(faces[:2])
    index = UniquenessIndex(embeddings.shape[1])
    assert not rejected_by(keeper.unique(index, embeddings[0]))
    index.add(["a"], embeddings[:1])
    assert rejected_by(keeper.unique(index, embeddings[0])) == ["unique"]


def test_a_copied_reference_a_copied_source_and_a_stranger_are_refused(
    keeper: Keeper, faces: list[Image.Image]
) -> None:
    source, reference = faces[0], faces[1]
    encoder = open_encoder("mini")

    def judged(picture: Image.Image) -> list[str]:
        to = [float((encoder.embed([picture])[0] * encoder.embed([other])[0]).sum()) for other in (source, reference)]
        return rejected_by(keeper.examine_image(picture, *to, [], {}))

    assert "leakage" in judged(reference) and "identity" in judged(source)
    assert "identity" in judged(faces[2])


def test_near_duplicates_of_a_person_are_refused(keeper: Keeper, faces: Sequence[Image.Image]) -> None:
    others = [measures.thumbnail(faces[0])]
    nearly = Image.fromarray((np.asarray(faces[0], int) + 1).clip(0, 255).astype(np.uint8))
    assert not measures.duplicate(nearly, others, 2.0).passed
    assert measures.duplicate(faces[1], others, 2.0).passed and measures.duplicate(faces[1], [], 2.0).passed


def test_a_mislabelled_cell_is_refused() -> None:
    said = {"gender": {"female": 0.1, "male": 0.9}, "ethnicity": {"A": 0.5, "B": 0.3, "C": 0.2}}
    verdicts = measures.attributes(said, {"gender": "female", "ethnicity": "A", "age_interval": "18-29"})
    assert [(v.gate, v.figure, v.passed) for v in verdicts] == [("gender", 2, False), ("ethnicity", 1, True)]


def test_attributes_are_judged_in_colour_and_in_grey(faces: Sequence[Image.Image]) -> None:
    settings = GateSettings(classifier="mini", unique=False, identity=False, leakage=False)
    cell = {"ethnicity": "African", "gender": "male", "age_interval": "18-29"}
    keeper = Keeper(settings, 4, None)
    (of_source,) = keeper.examine_sources(faces[:1], [cell])
    for verdicts in (of_source, keeper.examine_image(faces[0], None, None, [], cell)):
        assert {f"{key}{suffix}" for key in cell for suffix in ("", " in grey")} <= {v.gate for v in verdicts}


def test_images_are_held_to_what_was_asked_for(faces: Sequence[Image.Image]) -> None:
    settings = GateSettings(classifier="mini", unique=False, identity=False, leakage=False)
    said = open_classifier("mini", {}).classify(faces[:1])[0]["gender"]
    right, wrong = sorted(said, key=lambda name: -said[name])

    def refusing(settings: GateSettings, gender: str) -> list[str]:
        return rejected_by(Keeper(settings, 4, None).examine_image(faces[0], None, None, [], {"gender": gender}))

    assert "gender" not in refusing(settings, right) and "gender" in refusing(settings, wrong)
    assert "gender" not in refusing(settings.model_copy(update={"image_attributes": False}), wrong)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, []),
        ({"classifier": "mini"}, ["source face", "image"]),
        ({"classifier": "mini", "image_attributes": False}, ["source face"]),
        ({"classifier": "mini", "enabled": False}, []),
    ],
)
def test_settings_say_what_a_classifier_judges(settings: dict[str, Any], said: list[str]) -> None:
    assert GateSettings(**settings).classified == said


def test_sharpness_is_the_variance_of_the_laplacian(faces: Sequence[Image.Image]) -> None:
    grey = np.asarray(faces[0].convert("L"), float)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    assert measures.sharpness(faces[0], 0).figure == pytest.approx(laplacian.var(), rel=1e-3)
    assert measures.contrast(faces[0], 0).figure == pytest.approx(grey.std(), abs=0.01)


def test_thresholds_follow_the_size_of_the_dataset() -> None:
    encoder = open_encoder("mini")
    few, many = (Keeper(GateSettings(), count, encoder) for count in (4, 100))
    assert few.rates["unique"] == pytest.approx(0.1 / 4) and many.rates["unique"] == pytest.approx(0.001)
    assert many.thresholds["unique"] > few.thresholds["unique"]  # less is let pass for somebody else by mistake
    calibration = calibration_of(encoder)
    assert many.thresholds["unique"] == calibration.threshold(0.001, strangers="cell", pictures="frontal")


def test_gates_on_identity_need_an_encoder() -> None:
    with pytest.raises(UsageError, match="need a face encoder"):
        Keeper(GateSettings(), 4, None)
    Keeper(GateSettings(unique=False, identity=False, leakage=False), 4, None)
    Keeper(GateSettings(enabled=False), 4, None)


def test_generate_lets_in_unique_faces_and_keeps_what_it_refuses(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    """Three prompts with one seed and edge map would be one person; `--known` refuses those who were made before."""
    rows = [json.loads(line) for line in facesyn("prompts", "-n", 1).stdout.splitlines() * 2]
    rows[1]["id"] = "twin"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    edges = tmp_path / "edges"
    edges.mkdir()
    Image.open(list_images(BANK.parent / "edges")[0]).save(edges / "one.png")
    words = ["--edges", edges, "--attempts", 2]
    result = facesyn("generate", prompts, "-o", tmp_path / "faces", *words)
    accepted = [json.loads(line) for line in (tmp_path / "faces" / "metadata.jsonl").read_text().splitlines()]
    rejected = [json.loads(line) for line in (tmp_path / "faces" / "rejected.jsonl").read_text().splitlines()]
    twins = [row for row in rejected if row["attempt"] == 0]
    assert accepted and accepted[0]["gates"]["unique"] == -1
    assert [row["id"] for row in twins] == ["twin"] and twins[0]["rejected_by"] == ["unique"]
    assert all(row["face_seed"] != rows[0]["seed"] for row in accepted + rejected if row["attempt"])
    assert result.exit_code == (0 if len(accepted) == 2 else 1)
    before = (tmp_path / "faces" / "rejected.jsonl").read_bytes()
    facesyn("generate", prompts, "-o", tmp_path / "faces", *words)
    assert (tmp_path / "faces" / "rejected.jsonl").read_bytes() == before  # used-up attempts are not made again

    again = facesyn(
        "generate", prompts, "-o", tmp_path / "more", *words, "--attempts", 1, "--known", tmp_path / "faces"
    )
    assert again.exit_code == 1 and "Shortfall in" in again.stderr and "0 faces" in again.stderr


def test_a_face_let_in_at_a_later_attempt_is_not_made_again(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    """Someone known before cannot be let in at the first attempt; later ones have other noise and another edge map."""
    prompts, known, made = tmp_path / "prompts.jsonl", tmp_path / "known", tmp_path / "made"
    prompts.write_text(facesyn("prompts", "-n", 2).stdout)
    facesyn("generate", prompts, "-o", known, "--no-gates")
    words = ("generate", prompts, "-o", made, "--known", known, "--attempts", 6)
    assert facesyn(*words).exit_code == 0
    rows = read_rows(made / "metadata.jsonl", FaceRow)
    first = {row.id: row for row in read_rows(known / "metadata.jsonl", FaceRow)}
    assert all(row.attempt > 0 for row in rows)
    assert all(row.face_seed != first[row.id].face_seed for row in rows)
    assert any(row.edge_map != first[row.id].edge_map for row in rows)

    before = {file.name: file.read_bytes() for file in made.iterdir()}
    assert facesyn(*words).exit_code == 0
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before

    other = tmp_path / "edges"
    other.mkdir()
    Image.open(list_images(BANK.parent / "edges")[0]).save(other / "one.png")
    refused = facesyn(*words, "--edges", other)
    assert refused.exit_code == 1 and "was made with another edge_map" in refused.stderr


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A calibration by which anybody is too much like anybody."""
    limits = calibration_of(open_encoder("mini")).model_dump()
    for row in limits["thresholds"]:
        row["threshold"] = row["low"] = row["high"] = -0.9
    (tmp_path / "strict.json").write_text(json.dumps(limits))
    return tmp_path / "strict.json"


def test_transfer_refuses_what_copies_its_reference(
    facesyn: Callable[..., Any], faces: Any, strict: Path, tmp_path: Path
) -> None:
    """A reference that is the source itself: the result resembles it, whoever judges."""
    for name in ("faces", "styles"):
        (tmp_path / name).mkdir()
        faces[0].save(tmp_path / name / "one.png")
    words = ["--references", tmp_path / "styles", "--per-identity", 1, "--steps", 2, "--attempts", 2]
    result = facesyn("transfer", tmp_path / "faces", *words, "--calibration", strict, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "Shortfall of one: 1 pictures" in result.stderr, result.stderr
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [row["rejected_by"] for row in rejected if "leakage" in row["rejected_by"]] and len(rejected) == 2
    assert len({row["transfer_seed"] for row in rejected}) == 2
    assert not (tmp_path / "out" / "one").exists()


def test_a_refused_transfer_is_tried_in_another_style(
    facesyn: Callable[..., Any], faces: Any, strict: Path, tmp_path: Path
) -> None:
    for name, pictures in (("faces", faces[:1]), ("styles", faces[1:7])):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{number}.png")
    words = ["transfer", tmp_path / "faces", "--references", tmp_path / "styles", "--per-identity", 2]
    words += ["-o", tmp_path / "out", "--attempts", 4]
    assert facesyn(*words, "--calibration", strict).exit_code == 1
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    planned = {row["reference"] for row in rejected[:2]}
    assert len(rejected) == 8 and planned.isdisjoint(row["reference"] for row in rejected[2:])

    rows = tmp_path / "out" / "rejected.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))  # as if killed after the first round
    assert facesyn(*words).exit_code == 0
    accepted = read_rows(tmp_path / "out" / "metadata.jsonl", TransferRow)
    assert len(accepted) == 2 and all(row.attempt and row.reference not in planned for row in accepted)
    before = (tmp_path / "out" / "metadata.jsonl").read_bytes()
    assert facesyn(*words).exit_code == 0 and (tmp_path / "out" / "metadata.jsonl").read_bytes() == before
    assert "was made with another attempt and gates" in facesyn(*words, "--no-gates").stderr


def test_transfers_are_held_to_what_their_prompts_asked_for(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    prompts = [json.loads(line) for line in facesyn("prompts", "-n", 2).stdout.splitlines()]
    text = "".join(json.dumps(row) + "\n" for row in prompts)
    assert facesyn("generate", "-", "--no-gates", "-o", tmp_path / "faces", input=text).exit_code == 0
    words = ["transfer", tmp_path / "faces", "--per-identity", 2, "--attempts", 1, "-o", tmp_path / "out"]
    facesyn(*words, "--classifier", "mini")
    kinds = {"metadata.jsonl": True, "rejected.jsonl": False}
    rows = {
        name: [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]
        for name in kinds
        if (tmp_path / "out" / name).exists()
    }
    assert sum(map(len, rows.values())) == 4
    for name, passed in kinds.items():
        for row in rows.get(name, []):
            ranks = [row["gates"][attribute] for attribute in ("ethnicity", "gender", "age_interval")]
            assert not passed or ranks == [1, 1, 1]


def test_every_exact_pair_is_written_whatever_the_gates_say(
    facesyn: Callable[..., Any], faces: Any, strict: Path, tmp_path: Path
) -> None:
    for number, picture in enumerate(faces[:3]):
        picture.save(tmp_path / f"{number}.png")
    pairs = [{"source": "0.png", "reference": f"{number}.png", "output": f"{number}.png"} for number in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    words = ["transfer", tmp_path, "--pairs", tmp_path / "pairs.jsonl", "-o", tmp_path / "out"]
    result = facesyn(*words, "--calibration", strict)
    assert result.exit_code == 0 and "3 of them would not have passed the gates" in result.stderr, result.stderr
    rows = read_rows(tmp_path / "out" / "metadata.jsonl", TransferRow)
    assert [(row.file_name, row.reference, row.attempt) for row in rows] == [(f"{n}.png",) * 2 + (0,) for n in range(3)]
    assert all("leakage" in (row.rejected_by or []) and row.gates for row in rows)
    assert not (tmp_path / "out" / "rejected.jsonl").exists()
