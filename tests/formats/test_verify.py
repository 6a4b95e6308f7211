"""`facesyn dataset verify`: what is whole passes, and every kind of damage is found and named."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesyn.formats.convert import convert
from facesyn.formats.manifest import file_hash
from facesyn.formats.samples import Layout

from .conftest import FORMATS, encoded, hashes, write_people

Run = Callable[..., Any]
pytest.importorskip("h5py", reason="the formats extra is not installed")
pytest.importorskip("pyarrow", reason="the formats extra is not installed")

DATA = {
    "imagefolder": "p03/000.v1.png",
    "webdataset": "train-000000.tar",
    "parquet": "data/train-00000-of-00001.parquet",
    "recordio": "train.rec",
    "hdf5": "dataset.h5",
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same dataset in every format. Not to be changed."""
    folder = tmp_path_factory.mktemp("originals")
    write_people(folder / "source")
    for to in FORMATS:
        convert(folder / "source", folder / to, to)
    return folder


@pytest.fixture(params=FORMATS)
def dataset(request: pytest.FixtureRequest, originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / request.param, tmp_path / request.param))


def problems(facesyn: Run, folder: Path) -> dict[str, str]:
    """Bad file → what is wrong with it, of a folder that is not whole."""
    before = hashes(folder)
    result = facesyn("dataset", "verify", folder, "--json")
    assert result.exit_code == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr and hashes(folder) == before
    found = json.loads(result.stdout)["bad"]
    text = facesyn("dataset", "verify", folder)
    assert text.exit_code == 1 and all(f"{bad['file']}: {bad['problem']}" in text.stdout for bad in found)
    return {bad["file"]: bad["problem"] for bad in found}


def reseal(folder: Path) -> None:
    """Write the hashes anew, as someone would who wants a change not to be seen."""
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    names = [line[66:] for line in lines]
    sums = "".join(f"{file_hash(folder / name)}  {name}\n" for name in names if (folder / name).is_file())
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")


def test_what_is_whole_passes(facesyn: Run, dataset: Path) -> None:
    result = facesyn("dataset", "verify", dataset)
    assert result.exit_code == 0, result.stdout
    assert "28 images of 7 identities" in result.stdout and "all well" in result.stdout and not result.stderr


def test_sha256sum_reads_the_hashes(dataset: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dataset, check=True)


def test_one_flipped_byte_is_found_in_every_file(facesyn: Run, dataset: Path) -> None:
    names = [name for name in hashes(dataset) if not name.startswith("p0")] + [DATA[dataset.name]]
    for name in names:
        path = dataset / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x40
        path.write_bytes(data)
        found = problems(facesyn, dataset)
        assert name in found or name == "SHA256SUMS", name  # there the change may be in the name of a file
        data[len(data) // 2] ^= 0x40
        path.write_bytes(data)
    assert facesyn("dataset", "verify", dataset).exit_code == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_found(facesyn: Run, dataset: Path, share: float) -> None:
    name = DATA[dataset.name]
    data = (dataset / name).read_bytes()
    (dataset / name).write_bytes(data[: int(len(data) * share)])
    assert "hash differs" in problems(facesyn, dataset)[name]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_truncated_file_is_found_by_its_content_alone(facesyn: Run, dataset: Path, share: float) -> None:
    name = DATA[dataset.name]
    data = (dataset / name).read_bytes()
    (dataset / name).write_bytes(data[: int(len(data) * share)])
    reseal(dataset)
    assert problems(facesyn, dataset)


def test_every_missing_file_is_named(facesyn: Run, dataset: Path) -> None:
    names = [DATA[dataset.name], *(["p05/003.v1.png"] if dataset.name == "imagefolder" else [])]
    for name in names:
        (dataset / name).unlink()
    found = problems(facesyn, dataset)
    assert {name for name, problem in found.items() if problem == "is missing"} == set(names)


def test_a_missing_hash_list_or_manifest_is_named(facesyn: Run, dataset: Path) -> None:
    for name in ("manifest.json", "SHA256SUMS"):
        content = (dataset / name).read_bytes()
        (dataset / name).unlink()
        assert name in problems(facesyn, dataset)
        (dataset / name).write_bytes(content)


def test_a_file_that_does_not_belong_is_named(facesyn: Run, dataset: Path) -> None:
    name = {".png": "p03/stranger.png"}.get(Path(DATA[dataset.name]).suffix, DATA[dataset.name].replace("0-", "1-"))
    name = name if name != DATA[dataset.name] else "train-000007.tar"
    (dataset / name).parent.mkdir(exist_ok=True)
    (dataset / name).write_bytes((dataset / DATA[dataset.name]).read_bytes())
    assert problems(facesyn, dataset)[name] == "is not listed in SHA256SUMS"


class TestResealed:
    """Changes that no hash betrays, because the hashes were written anew: content and counts still do."""

    def test_a_label_of_a_table(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        pq = pytest.importorskip("pyarrow.parquet")
        folder = Path(shutil.copytree(originals / "parquet", tmp_path / "parquet"))
        table = pq.read_table(folder / DATA["parquet"])
        labels = table["label"].to_pylist()
        labels[4] = (labels[4] + 1) % 7
        at = table.schema.get_field_index("label")
        pq.write_table(table.set_column(at, table.schema.field(at), [labels]), folder / DATA["parquet"])
        reseal(folder)
        found = problems(facesyn, folder)
        assert list(found) == ["p06/000.v1.png"] and "its row 'p06'" in found["p06/000.v1.png"]

    def test_a_label_of_a_shard(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(originals / "webdataset", tmp_path / "webdataset"))
        path = folder / DATA["webdataset"]
        data = bytearray(path.read_bytes())
        at = data.index(b"000000004.cls") + 512
        data[at : at + 1] = b"6" if data[at : at + 1] != b"6" else b"5"
        path.write_bytes(data)
        reseal(folder)
        assert list(problems(facesyn, folder)) == ["p06/000.v1.png"]

    def test_a_label_of_a_record(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(originals / "recordio", tmp_path / "recordio"))
        offset = int((folder / "train.idx").read_text().splitlines()[5].split()[1])
        data = bytearray((folder / "train.rec").read_bytes())
        data[offset + 12 : offset + 16] = bytes(4)
        (folder / "train.rec").write_bytes(data)
        reseal(folder)
        assert "says 'p01', its row 'p06'" in problems(facesyn, folder)["p06/000.v1.png"]

    def test_a_label_of_an_hdf5_file(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        folder = Path(shutil.copytree(originals / "hdf5", tmp_path / "hdf5"))
        with h5py.File(folder / "dataset.h5", "r+") as file:
            file["labels"][4] = 99
        reseal(folder)
        assert "has the label 99, of 7 identities" in problems(facesyn, folder)["p06/000.v1.png"]

    def test_the_identity_of_a_row(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        for to in ("imagefolder", "recordio"):
            folder = Path(shutil.copytree(originals / to, tmp_path / to))
            path = folder / "metadata.jsonl"
            path.write_text(path.read_text().replace('"identity": "p06"', '"identity": "p05"', 1))
            reseal(folder)
            assert problems(facesyn, folder)

    def test_a_row_less(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(originals / "recordio", tmp_path / "recordio"))
        lines = (folder / "metadata.jsonl").read_text().splitlines(keepends=True)
        (folder / "metadata.jsonl").write_text("".join(lines[:-1]))
        reseal(folder)
        assert "fewer rows" in problems(facesyn, folder)["."]

    def test_a_picture_and_its_row_less(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(originals / "imagefolder", tmp_path / "imagefolder"))
        lines = (folder / "metadata.jsonl").read_text().splitlines(keepends=True)
        (folder / "metadata.jsonl").write_text("".join(lines[:-1]))
        (folder / json.loads(lines[-1])["file_name"]).unlink()
        reseal(folder)
        assert "It holds 27 images; its manifest says 28" in problems(facesyn, folder)["."]

    def test_two_pictures_swapped(self, facesyn: Run, originals: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(originals / "imagefolder", tmp_path / "imagefolder"))
        one, other = folder / "p03/000.v1.png", folder / "p04/001.v1.png"
        first = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(first)
        reseal(folder)
        assert list(problems(facesyn, folder)) == ["manifest.json"]


def test_a_hash_list_may_not_lead_out_of_the_folder(facesyn: Run, originals: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals / "hdf5", tmp_path / "hdf5"))
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    assert "line 1: not a hash and a file of this folder" in problems(facesyn, folder)["SHA256SUMS"]


class TestMadeElsewhere:
    """An ImageFolder without a manifest."""

    def test_what_can_be_checked_is_and_the_lack_of_hashes_is_said(self, facesyn: Run, people: Path) -> None:
        result = facesyn("dataset", "verify", people)
        assert result.exit_code == 0, result.stdout
        assert "28 images of 7 identities, imagefolder: all well" in result.stdout
        assert "has no hashes" in result.stderr
        assert json.loads(facesyn("dataset", "verify", people, "--json").stdout)["hashes"] is False

    def test_every_bad_picture_is_named(self, facesyn: Run, people: Path) -> None:
        (people / "p01/002.v1.png").unlink()
        (people / "p02/002.v1.png").unlink()
        data = bytearray((people / "p03/000.v1.png").read_bytes())
        data[200] ^= 1
        (people / "p03/000.v1.png").write_bytes(data)
        (people / "p04/001.v1.png").write_bytes(data[:150])
        (people / "p05/stranger.png").write_bytes(encoded(99))
        found = problems(facesyn, people)
        assert sorted(found) == [
            "p01/002.v1.png",
            "p02/002.v1.png",
            "p03/000.v1.png",
            "p04/001.v1.png",
            "p05/stranger.png",
        ]
        assert found["p05/stranger.png"] == "has no row" and "cannot be decoded" in found["p03/000.v1.png"]

    def test_rows_that_cannot_be_read_are_named(self, facesyn: Run, people: Path) -> None:
        with open(people / "metadata.jsonl", "a") as rows:
            rows.write('{"file_name": "p01/x')
        assert "line 29: not valid JSON" in problems(facesyn, people)["."]


def test_what_is_no_dataset_is_refused(facesyn: Run, tmp_path: Path) -> None:
    result = facesyn("dataset", "verify", tmp_path)
    assert result.exit_code == 2 and "is no dataset that facesyn reads" in result.stderr


def test_shards_of_several_files_are_whole_together(facesyn: Run, people: Path, tmp_path: Path) -> None:
    convert(people, tmp_path / "out", "webdataset", layout=Layout(shard_bytes=30_000))
    last = sorted((tmp_path / "out").glob("*.tar"))[-1]
    last.unlink()
    reseal(tmp_path / "out")
    assert "its manifest says 28" in problems(facesyn, tmp_path / "out")["."]
