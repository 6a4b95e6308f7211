"""RecordIO on the level of bytes: what the wire format asks for, and records that were made elsewhere."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from facesyn.banks import read_bank
from facesyn.errors import DatasetError
from facesyn.formats.convert import convert
from facesyn.formats.recordio import EXACT, RecordIOReader, write_recordio
from facesyn.formats.registry import open_dataset
from facesyn.formats.samples import Layout, Reader

from .conftest import MAGIC, encoded

Convert = Callable[..., Path]


def record(content: bytes, part: int = 0) -> bytes:
    return MAGIC + struct.pack("<I", part << 29 | len(content)) + content + bytes(-len(content) % 4)


def test_layout_is_the_one_arcface_torch_reads(people: Path, converted: Convert) -> None:
    folder = converted("recordio")
    data = (folder / "train.rec").read_bytes()
    offsets = dict(map(int, line.split("\t")) for line in (folder / "train.idx").read_text().splitlines())  # type: ignore[misc]
    assert list(offsets) == list(range(29)) and offsets[0] == 0
    # record 0: flag 2, then the first number that is no picture, twice
    assert data[:40] == record(struct.pack("<IfQQ2f", 2, 0, 0, 0, 29, 29))
    listing = [line.split("\t") for line in (folder / "train.lst").read_text().splitlines()]
    for number, sample in enumerate(open_dataset(people), 1):
        at = offsets[number] + 8
        assert data[offsets[number] : at - 4] == MAGIC
        assert struct.unpack_from("<IfQQ", data, at) == (0, sample.label, number, 0)
        assert listing[number - 1] == [str(number), f"{sample.label}.000000", sample.file_name]
    assert (folder / "property").read_text() == "7,24,24\n"


def test_a_picture_that_holds_the_magic_is_written_in_parts(tmp_path: Path) -> None:
    """At a multiple of four bytes, counted from the header, the magic is left out and put in again."""
    picture = encoded(0, "BMP", size=8)  # 54 + 192 bytes: content from byte 24 + 246 on
    tails = (b"", MAGIC, b"ab" + MAGIC, b"ab" + MAGIC * 2, b"ab" + MAGIC + b"xyz" + MAGIC, b"ab" + MAGIC + b"x")
    pictures = [picture + tail for tail in tails]
    (tmp_path / "in" / "p").mkdir(parents=True)
    for number, content in enumerate(pictures):
        (tmp_path / "in" / "p" / f"{number}.bmp").write_bytes(content)
    convert(tmp_path / "in", tmp_path / "out", "recordio")
    assert [sample.data for sample in open_dataset(tmp_path / "out")] == pictures
    written = (tmp_path / "out" / "train.rec").read_bytes()
    head = struct.pack("<IfQQ", 0, 0, 3, 0)
    assert record(head + picture + b"ab", 1) + record(b"", 3) in written
    head = struct.pack("<IfQQ", 0, 0, 4, 0)
    assert record(head + picture + b"ab", 1) + record(b"", 2) + record(b"", 3) in written
    words = [written[at : at + 4] for at in range(0, len(written), 4)]
    assert words.count(MAGIC) == 1 + 1 + 1 + 2 + 3 + 2 + 2  # a record or a part each, never a picture's


def test_records_without_rows_are_read_by_label_and_number(tmp_path: Path) -> None:
    """As insightface's own sets are: record 0 with two labels, people's records after the pictures."""
    pictures = [encoded(seed, kind) for seed, kind in enumerate(("JPEG", "PNG", "JPEG"))]
    records = [record(struct.pack("<IfQQ2f", 2, 0, 0, 0, 4, 6))]
    for number, (label, picture) in enumerate(zip((0, 0, 12), pictures, strict=True), 1):
        records.append(record(struct.pack("<IfQQ2f", 2, 0, number, 0, label, 1) + picture))
    records += [record(struct.pack("<IfQQ2f", 2, 0, each, 0, 1, 3)) for each in (4, 5)]
    places = [sum(map(len, records[:number])) for number in range(len(records))]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.rec").write_bytes(b"".join(records))
    (tmp_path / "in" / "train.idx").write_text("".join(f"{number}\t{place}\n" for number, place in enumerate(places)))
    reader = open_dataset(tmp_path / "in")
    names = ["0000000/00000001.jpg", "0000000/00000002.png", "0000012/00000003.jpg"]
    assert [sample.file_name for sample in reader] == names
    assert [sample.data for sample in reader] == pictures
    assert [reader.classes[sample.label] for sample in reader] == ["0000000", "0000000", "0000012"]
    convert(tmp_path / "in", tmp_path / "out", "imagefolder")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/*/*")) == names
    assert [reference.name for reference in read_bank(tmp_path / "out")] == names  # and may be a build's --references


@pytest.mark.parametrize("flag", [0, 2])
def test_without_a_first_record_for_it_every_record_is_a_picture(flag: int, tmp_path: Path) -> None:
    label = struct.pack("<IfQQ", 0, 3.0, 0, 0)
    (tmp_path / "train.rec").write_bytes(record(label + encoded(1)) + record(label + encoded(2)))
    first = len(record(label + encoded(1)))
    (tmp_path / "train.idx").write_text(f"0\t0\n1\t{first}\n" if flag == 0 else f"1\t0\n2\t{first}\n")
    assert [sample.data for sample in RecordIOReader(tmp_path)] == [encoded(1), encoded(2)]


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(record(bytes(24)))
    for text, said in (("0\tx\n", "no index"), ("99999999999999\t0\n", "out of order"), ("", "lists no record")):
        (tmp_path / "train.idx").write_text(text)
        with pytest.raises(DatasetError, match=said):
            RecordIOReader(tmp_path)


def test_more_than_float32_counts_is_refused(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source: Reader = open_dataset(people)
    monkeypatch.setattr(type(source), "__len__", lambda self: EXACT)
    with pytest.raises(DatasetError, match="16,777,216 pictures of 7 identities are more than RecordIO can number"):
        write_recordio(tmp_path, source, Layout())
