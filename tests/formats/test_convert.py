"""`facesyn dataset convert`: nothing is lost or touched, whatever the way through the formats."""

import fcntl
import functools
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.errors import DatasetError
from facesyn.formats.convert import convert
from facesyn.formats.registry import open_dataset
from facesyn.formats.samples import Layout, Sample
from facesyn.rendered import read_shards

from .conftest import FORMATS, encoded, hashes, write_people

Convert = Callable[..., Path]
Run = Callable[..., Any]
h5py = pytest.importorskip("h5py", reason="the formats extra is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the formats extra is not installed")


def samples(folder: Path) -> list[Sample]:
    return list(open_dataset(folder))


def test_a_chain_through_all_formats_gives_the_first_back(people: Path, converted: Convert) -> None:
    expected, place = samples(people), people
    assert len({sample.label for sample in expected}) == 7
    ways = ("parquet", "webdataset", "hdf5", "recordio", "imagefolder", "recordio", "webdataset", "parquet", "hdf5")
    for step, format in enumerate((*ways, "imagefolder")):
        place = converted(format, source=place, name=f"{step}-{format}")
        found = samples(place)
        assert [sample.data for sample in found] == [sample.data for sample in expected], format
        assert [json.dumps(sample.row) for sample in found] == [json.dumps(sample.row) for sample in expected], format
        assert [sample.label for sample in found] == [sample.label for sample in expected], format
    before, after = hashes(people), hashes(place)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"SHA256SUMS", "classes.json", "manifest.json"}


def test_trainings_read_the_shards_it_writes(people: Path, converted: Convert) -> None:
    faces = read_shards(converted("webdataset"))
    shown = {
        (label["identity"], label["seed"]): picture for label, picture in zip(faces.labels, faces.images, strict=True)
    }
    assert len(shown) == 28
    for sample in samples(people):
        picture = Image.open(io.BytesIO(sample.data)).convert("RGB")
        assert np.array_equal(shown[sample.row["identity"], sample.row["seed"]], np.asarray(picture))


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_twice_gives_the_same_bytes(to: str, people: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert(people, tmp_path / name, to, layout=Layout(shard_bytes=20_000))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_every_manifest_says_the_same(converted: Convert) -> None:
    manifests = [json.loads((converted(to) / "manifest.json").read_text()) for to in FORMATS]
    assert [each.pop("format") for each in manifests] == list(FORMATS)
    assert all(each == manifests[0] for each in manifests)
    assert (manifests[0]["images"], manifests[0]["identities"]) == (28, 7)


def test_datasets_sees_an_image_and_a_class_label(people: Path, converted: Convert, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets extra is not installed")
    folder = converted("parquet")
    data = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    expected = samples(people)
    assert isinstance(data.features["image"], datasets.Image)
    assert data.features["label"] == datasets.ClassLabel(names=[f"p{number:02d}" for number in range(1, 8)])
    assert data["label"] == [sample.label for sample in expected]
    assert data["identity"] == [data.features["label"].int2str(label) for label in data["label"]]
    assert data["seed"] == [sample.row["seed"] for sample in expected]
    assert data[3]["image"].tobytes() == Image.open(people / expected[3].file_name).tobytes()
    assert [json.loads(text) for text in data["row"]] == [sample.row for sample in expected]
    assert data[1]["gates"] == {"quality": 0.5} and data[1]["landmarks"] == [[1.5, 2], [3, 4.25]]
    assert data["attempt"][4] is None and data["attempt"][5] == 5
    assert not {"mixed", "empty"} & data.features.keys()
    raw = data.cast_column("image", datasets.Image(decode=False))
    assert [each["bytes"] for each in raw["image"]] == [sample.data for sample in expected]


def test_parquet_is_split_into_numbered_files(people: Path, tmp_path: Path) -> None:
    convert(people, tmp_path / "out", "parquet", layout=Layout(shard_bytes=20_000))
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert len(files) > 2
    assert [file.name for file in files] == [f"train-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    tables = [pq.read_table(file) for file in files]
    assert [name for table in tables for name in table["file_name"].to_pylist()] == [
        sample.file_name for sample in samples(people)
    ]
    assert all(sum(len(each["bytes"]) for each in table["image"].to_pylist()) <= 20_000 for table in tables)


def test_webdataset_reads_shards_shuffled_across_identities(people: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    orders = []
    for seed in (0, 1):
        folder = tmp_path / f"seed{seed}"
        convert(people, folder, "webdataset", layout=Layout(shard_bytes=40_000, seed=seed))
        tars = sorted(folder.glob("*.tar"))
        assert len(tars) > 1 and all(tar.stat().st_size <= 40_000 for tar in tars)
        data = webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False, empty_check=False)
        found = [(json.loads(each["json"]), int(each["cls"]), each) for each in data]
        by_name = {sample.file_name: sample for sample in samples(people)}
        assert len(found) == 28
        for row, label, each in found:
            sample = by_name.pop(row["file_name"])
            picture = each[row["file_name"].rpartition(".")[2]]
            assert (row, label, picture) == (sample.row, sample.label, sample.data)
        orders.append([row["file_name"] for row, _, _ in found])
        neighbours = [one["identity"] == two["identity"] for (one, _, _), (two, _, _) in pairwise(found)]
        assert sum(neighbours) < 10  # in order it would be 21
    assert orders[0] != orders[1]


def test_members_of_a_sample_are_neighbours_without_time_or_owner(converted: Convert) -> None:
    with tarfile.open(converted("webdataset") / "train-000000.tar") as tar:
        members = tar.getmembers()
    keys = [key for key, _ in groupby(member.name.partition(".")[0] for member in members)]
    assert len(keys) == len(set(keys)) == 28
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, 0, "", "")}


def test_h5py_reads_encoded_bytes_labels_and_names(people: Path, converted: Convert) -> None:
    with h5py.File(converted("hdf5") / "dataset.h5") as file:
        for number, sample in enumerate(samples(people)):
            assert file["images"][number].tobytes() == sample.data
            assert file["labels"][number] == sample.label
            assert file["names"].asstr()[number] == sample.file_name
            assert json.loads(file["metadata"].asstr()[number]) == sample.row
            assert file["classes"].asstr()[sample.label] == sample.row["identity"]


def test_labels_are_kept_where_a_dataset_numbers_its_people_otherwise(converted: Convert) -> None:
    folder = converted("imagefolder")
    classes = [*json.loads((folder / "classes.json").read_text())[::-1], "p99, of whom there is no picture"]
    (folder / "classes.json").write_text(json.dumps(classes))
    expected = [sample.label for sample in samples(folder)]
    place = folder
    for format in ("parquet", "recordio", "webdataset", "hdf5", "imagefolder"):
        place = converted(format, source=place, name=f"again-{format}")
        assert list(open_dataset(place).classes) == classes
        assert [sample.label for sample in samples(place)] == expected


def test_a_folder_per_person_is_read_without_rows(tmp_path: Path) -> None:
    for name in ("Anna/1.png", "Anna/2.png", "Bela/1.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(len(name)))
    convert(tmp_path / "in", tmp_path / "out", "parquet")
    found = samples(tmp_path / "out")
    assert [(sample.file_name, sample.label) for sample in found] == [
        ("Anna/1.png", 0),
        ("Anna/2.png", 0),
        ("Bela/1.png", 1),
    ]


def test_a_parquet_dataset_made_elsewhere_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets extra is not installed")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["zoe", "abe"]), age=datasets.Value("int32")
    )
    images = [{"bytes": encoded(seed), "path": None} for seed in range(3)]
    data = datasets.Dataset.from_dict({"image": images, "label": [1, 0, 1], "age": [30, 40, None]}, features=features)
    (tmp_path / "in" / "data").mkdir(parents=True)
    data.to_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet")
    convert(tmp_path / "in", tmp_path / "out", "imagefolder")
    rows = [sample.row for sample in samples(tmp_path / "out")]
    assert [row["identity"] for row in rows] == ["abe", "zoe", "abe"] and [row["age"] for row in rows] == [30, 40, None]
    assert [sample.data for sample in samples(tmp_path / "out")] == [image["bytes"] for image in images]


def test_a_webdataset_made_elsewhere_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "faces-0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for key, label in (("b/ü1", 10), ("a2", 9), ("a3", 10)):
            for suffix, content in (("jpg", encoded(label, "JPEG")), ("cls", str(label).encode())):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    convert(tmp_path / "in", tmp_path / "out", "hdf5")
    found = [(sample.file_name, sample.row["identity"]) for sample in samples(tmp_path / "out")]
    assert found == [("b/ü1.jpg", "10"), ("a2.jpg", "9"), ("a3.jpg", "10")]


@pytest.mark.parametrize("to", FORMATS)
def test_pictures_of_one_size_are_kept_over_several_blocks(to: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "p").mkdir(parents=True)
    pictures = [encoded(seed, "BMP", size=4) for seed in range(129)]  # two blocks, and one picture
    for number, picture in enumerate(pictures):
        (tmp_path / "in" / "p" / f"{number:03d}.bmp").write_bytes(picture)
    convert(tmp_path / "in", tmp_path / "out", to)
    assert [sample.data for sample in samples(tmp_path / "out")] == pictures


def test_a_table_is_not_read_as_a_whole(tmp_path: Path) -> None:
    import pyarrow as pa

    (tmp_path / "in" / "p").mkdir(parents=True)
    for number in range(30):
        content = encoded(number) + random.Random(number).randbytes(2_000_000)
        (tmp_path / "in" / "p" / f"{number:02d}.png").write_bytes(content)
    convert(tmp_path / "in", tmp_path / "out", "parquet")
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in open_dataset(tmp_path / "out")]
    assert len(held) == 30 and max(held) < 40_000_000


def test_a_target_that_exists_is_left_alone(facesyn: Run, people: Path, tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "thesis.txt").write_text("precious")
    result = facesyn("dataset", "convert", people, target, "--to", "hdf5")
    assert result.exit_code == 2 and "is not an empty folder" in result.stderr
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("to", FORMATS)
def test_a_source_that_breaks_off_leaves_nothing(to: str, facesyn: Run, people: Path, tmp_path: Path) -> None:
    (people / samples(people)[20].file_name).unlink()
    before = sorted(tmp_path.iterdir())
    result = facesyn("dataset", "convert", people, tmp_path / "out", "--to", to)
    assert result.exit_code == 1 and "Cannot read" in result.stderr and "No such file" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("to", FORMATS)
def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing(to: str, people: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file sizes are limited on POSIX only")
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-m", "facesyn", "dataset", "convert", people, tmp_path / "out", "--to", to]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode == 1 and result.stderr.startswith("error: The file would be larger than allowed here")
    assert len(result.stderr.splitlines()) == 2, result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_conversion_left_is_cleared_away(people: Path, tmp_path: Path) -> None:
    left = tmp_path / ".out.converting" / "data"
    left.mkdir(parents=True)
    (left / ".00000").write_bytes(b"half a table")
    convert(people, tmp_path / "out", "parquet")
    assert not left.parent.exists() and len(samples(tmp_path / "out")) == 28
    assert not [name for name in hashes(tmp_path / "out") if "/." in name]


def test_two_conversions_into_one_folder_are_refused(facesyn: Run, people: Path, tmp_path: Path) -> None:
    work = tmp_path / ".out.converting"
    work.mkdir()
    lock = os.open(work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    result = facesyn("dataset", "convert", people, tmp_path / "out", "--to", "hdf5")
    os.close(lock)
    assert result.exit_code == 2 and "Another conversion" in result.stderr and work.is_dir()


def test_two_pictures_of_one_name_are_refused(people: Path, tmp_path: Path) -> None:
    lines = (people / "metadata.jsonl").read_text().splitlines(keepends=True)
    (people / "metadata.jsonl").write_text("".join([*lines, lines[0]]))
    with pytest.raises(DatasetError, match="Two pictures are named p07/000.v1.png"):
        convert(people, tmp_path / "out", "imagefolder")


def test_a_row_that_leads_out_of_the_folder_is_refused(facesyn: Run, people: Path, tmp_path: Path) -> None:
    with open(people / "metadata.jsonl", "a") as rows:
        rows.write('{"file_name": "../../etc/x.png", "identity": "p01"}\n')
    result = facesyn("dataset", "convert", people, tmp_path / "out", "--to", "imagefolder")
    assert result.exit_code == 2 and "line 29: file_name: must be a relative path" in result.stderr


def test_a_missing_library_is_named_with_the_extra(
    facesyn: Run, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = facesyn("dataset", "convert", people, tmp_path / "out", "--to", "hdf5")
    assert result.exit_code == 1 and "needs h5py" in result.stderr and "facesyn[formats]" in result.stderr


def test_what_is_no_dataset_is_refused(facesyn: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        result = facesyn("dataset", "convert", tmp_path / folder, tmp_path / "out", "--to", "parquet")
        assert result.exit_code == 2 and folder in result.stderr
    assert not (tmp_path / "out").exists()


class TestBuild:
    """A run folder of `facesyn dataset build`, reduced to what is read of it."""

    @pytest.fixture
    def build(self, tmp_path: Path) -> Path:
        folder = tmp_path / "build"
        write_people(folder / "images", people=2)
        write_people(folder / "aligned", people=2, images=3)
        (folder / "recipe.toml").write_text('name = "toy"\n')
        return folder

    @pytest.mark.parametrize("to", FORMATS)
    def test_recordio_takes_the_aligned_pictures_and_the_others_do_not(
        self, to: str, build: Path, converted: Convert
    ) -> None:
        expected = build / ("aligned" if to == "recordio" else "images")
        assert samples(converted(to, source=build)) == samples(expected)

    def test_either_may_be_asked_for(self, build: Path, converted: Convert) -> None:
        chosen = converted("parquet", "--images", "aligned", source=build)
        assert samples(chosen) == samples(build / "aligned")
        chosen = converted("recordio", "--images", "images", source=build)
        assert samples(chosen) == samples(build / "images")

    def test_what_is_not_there_is_refused(self, facesyn: Run, build: Path, people: Path, tmp_path: Path) -> None:
        (build / "aligned" / "metadata.jsonl").unlink()
        for source, said in ((build, "has no aligned"), (people, "no run folder")):
            out = tmp_path / "out"
            result = facesyn("dataset", "convert", source, out, "--to", "hdf5", "--images", "aligned")
            assert result.exit_code == 2 and said in result.stderr
