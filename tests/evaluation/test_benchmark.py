"""Verification against an independent account of the published procedure; `.bin` files, good and evil."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesyn.errors import UsageError
from facesyn.evaluation.benchmark import equal_error_rate, read_benchmark, roc_curve, verify, write_bin
from facesyn.testing import drawn_face


def fixture(pairs: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    first = rng.normal(size=(pairs, 32))
    second = np.where(same[:, None], first + 0.9 * rng.normal(size=(pairs, 32)), rng.normal(size=(pairs, 32)))
    embeddings = np.stack([first, second], 1).reshape(2 * pairs, 32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), same


def published(embeddings: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Ten-fold accuracy as insightface tells it, pair by pair and threshold by threshold."""
    count = len(same)
    distance = [
        float(sum((a - b) ** 2 for a, b in zip(embeddings[2 * i], embeddings[2 * i + 1], strict=True)))
        for i in range(count)
    ]

    def accuracy(threshold: float, chosen: list[int]) -> float:
        right = sum((distance[i] < threshold) == bool(same[i]) for i in chosen)
        return right / len(chosen)

    sizes = [count // 10 + (1 if fold < count % 10 else 0) for fold in range(10)]
    results, start = [], 0
    for size in sizes:
        test = list(range(start, start + size))
        train = [i for i in range(count) if i not in set(test)]
        start += size
        best, best_accuracy = 0.0, -1.0
        for step in range(400):
            found = accuracy(step * 0.01, train)
            if found > best_accuracy:
                best, best_accuracy = step * 0.01, found
        results.append(accuracy(best, test))
    mean = sum(results) / 10
    return mean, (sum((value - mean) ** 2 for value in results) / 10) ** 0.5


@pytest.mark.parametrize("pairs", [200, 203])
def test_ten_fold_accuracy_is_the_published_one(pairs: int) -> None:
    embeddings, same = fixture(pairs)
    found = verify(embeddings, same)
    mean, deviation = published(embeddings, same)
    assert found.accuracy == pytest.approx(mean, abs=1e-6)
    assert found.accuracy_std == pytest.approx(deviation, abs=1e-6)


def test_tar_at_far_and_eer_are_those_of_a_count() -> None:
    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(2, 1, 700), rng.normal(0, 1, 3000)
    far, tar = roc_curve(genuine, impostor)
    for wanted in (0.1, 0.01, 0.001):
        allowed = int(wanted * 3000 + 1e-9)
        threshold = sorted(impostor, reverse=True)[allowed]  # the first impostor that must not pass
        assert tar[far <= wanted + 1e-12].max() == pytest.approx(np.mean(genuine > threshold), abs=1e-6)
    levels = np.sort(np.concatenate([genuine, impostor]))
    gap = [
        (abs((impostor >= t).mean() - (genuine < t).mean()), ((impostor >= t).mean() + (genuine < t).mean()) / 2)
        for t in levels
    ]
    assert equal_error_rate(far, tar) == pytest.approx(min(gap)[1], abs=2e-3)


def test_a_far_that_the_pairs_cannot_resolve_is_left_out() -> None:
    assert set(verify(*fixture(2000)).tar) == {"0.001"}
    assert set(verify(*fixture(100)).tar) == set()


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    drawn_face(number, size=112).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bin_that_was_written_is_read(tmp_path: Path, protocol: int) -> None:
    pictures, same = [jpeg(n) for n in range(8)], [True, False, True, False]
    write_bin(tmp_path / "toy.bin", pictures, same)
    if protocol == 2:  # as the files in circulation are: numpy flags, old pickles
        (tmp_path / "toy.bin").write_bytes(pickle.dumps((pictures, [np.bool_(s) for s in same]), protocol=2))
    benchmark = read_benchmark(tmp_path / "toy.bin")
    assert benchmark.same.tolist() == same and benchmark.name == "toy"
    assert benchmark.open(5).tobytes() == drawn_face(5, size=112).tobytes()


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(([Evil(), Evil()], [True])),
        pickle.dumps((eval, [True])),
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        pickle.dumps(([b"a", b"b", b"c"], [True])),
        b"\x80\x04",
        b"",
    ],
    ids=["reduce", "builtin", "opcode", "odd", "torn", "empty"],
)
def test_an_evil_or_broken_bin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.bin").write_bytes(content)
    with pytest.raises(UsageError):
        read_benchmark(tmp_path / "evil.bin")
    assert not (tmp_path / "pwned").exists()


def test_pairs_are_read_and_stay_in_their_folder(tmp_path: Path) -> None:
    for number in range(4):
        drawn_face(number).save(tmp_path / f"{number}.png")
    (tmp_path / "pairs.txt").write_text("0.png 1.png 1\n\n2.png\t3.png\t0\n")
    benchmark = read_benchmark(tmp_path / "pairs.txt")
    assert benchmark.same.tolist() == [True, False] and benchmark.open(3).size == (128, 128)
    for line in ("../0.png 1.png 1", "/etc/passwd 1.png 1", "0.png 1.png", "0.png 1.png yes"):
        (tmp_path / "pairs.txt").write_text(line)
        with pytest.raises(UsageError, match="line 1"):
            read_benchmark(tmp_path / "pairs.txt")


def test_command_prints_a_row_and_draws_the_roc(facesyn: Callable[..., Any], tmp_path: Path) -> None:
    pictures = [jpeg(n // 2 if n % 4 < 2 else n) for n in range(40)]
    write_bin(tmp_path / "toy.bin", pictures, [i % 2 == 0 for i in range(20)])
    result = facesyn(
        "evaluate",
        "verification",
        "mini",
        "--benchmark",
        tmp_path / "toy.bin",
        "--roc",
        tmp_path / "roc.png",
        "--paper",
    )
    assert result.exit_code == 0, result.stderr
    assert "toy" in result.stdout and "ATD" in result.stdout and "83.54" in result.stdout
    with Image.open(tmp_path / "roc.png") as plot:
        assert plot.width > 400
