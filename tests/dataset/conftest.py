"""A toy distribution registered the way a stranger's is, banks of pictures, and a recipe that uses them."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from facesyn.records import Row, write_rows

ROOT = Path(__file__).parents[2]

ENTRY_POINTS = "".join(
    f"[facesyn.{role}s]\ntoy = toy_backends:Toy{name}\n"
    for role, name in (
        ("prompter", "Writer"),
        ("generator", "Generator"),
        ("transfer", "Transfer"),
        ("encoder", "Encoder"),
    )
)

RECIPE = """
name = "toy"
seed = 5
identities = 10
images = 3
shard_size = 2
batch_size = 4

[prompts]
backend = "toy"

[generate]
backend = "toy"
edges = "{edges}"

[transfer]
backend = "toy"
references = "{references}"

[encoder]
backend = "toy"
"""


@dataclass(frozen=True)
class Toy:
    """Where the toy backends, the banks and the recipe are."""

    site: Path
    edges: Path
    references: Path
    recipe: Path

    def command(self, output: Path, *arguments: object, recipe: Path | None = None) -> list[str]:
        words = ["dataset", "build", recipe or self.recipe, "-o", output, *arguments]
        return [sys.executable, "-m", "facesyn", *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        paths = os.pathsep.join([str(self.site), str(ROOT)])
        return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

    def build(
        self, output: Path, *arguments: object, recipe: Path | None = None, **environment: object
    ) -> subprocess.CompletedProcess[str]:
        """Run `facesyn dataset build` in a process of its own, with more variables in its `environment`."""
        return self._run(self.command(output, *arguments, recipe=recipe), **environment)

    def extend(self, output: Path, *arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
        """As `build`, of `facesyn dataset extend`."""
        words = ["dataset", "extend", output, *arguments]
        return self._run([sys.executable, "-m", "facesyn", *map(str, words)], **environment)

    def _run(self, command: list[str], **environment: object) -> subprocess.CompletedProcess[str]:
        variables = self.environment | {name: str(value) for name, value in environment.items()}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=180)

    def edited(self, path: Path, *changes: tuple[str, str]) -> Path:
        """A copy of the recipe at `path` with words replaced."""
        text = self.recipe.read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        return path


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("toy")
    site = folder / "site"
    info = site / "facesyn_toy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: facesyn-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "toy_backends.py").write_bytes((Path(__file__).parent / "toy_backends.py").read_bytes())
    edges, references = folder / "edges", folder / "references"
    edges.mkdir()
    references.mkdir()
    for number in range(4):
        edge = Image.new("L", (64, 64))
        ImageDraw.Draw(edge).ellipse((8 + number, 4, 56 - number, 60), outline=255)
        edge.save(edges / f"{number}.png")
    rows = []
    for number in range(8):
        gender = ("female", "male")[number % 2]
        Image.new("RGB", (40, 40), (30 * number, 255 - 30 * number, 90)).save(references / f"style{number}.png")
        labels = {"gender": gender, "yaw": 5.0 * number, "light": {"dir": [0, 1]}}
        rows.append(Row.model_validate({"file_name": f"style{number}.png", **labels}))
    write_rows(references / "metadata.jsonl", rows)
    recipe = folder / "toy.toml"
    recipe.write_text(RECIPE.format(edges=edges, references=references))
    return Toy(site, edges, references, recipe)


@pytest.fixture
def refused(toy: Toy, facesyn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`facesyn dataset build` in this process, for builds that end before they start a worker."""
    monkeypatch.syspath_prepend(str(toy.site))

    def run(output: Path, *arguments: object, recipe: Path | None = None) -> Any:
        return facesyn("dataset", "build", recipe or toy.recipe, "-o", output, *arguments)

    return run


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of every file under a folder, by relative name."""

    def of(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of


@pytest.fixture(scope="session")
def finished(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy dataset, built without interruption by one worker. Not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "dataset"
    result = toy.build(output, "--workers", 1)
    assert result.returncode == 0, result.stderr
    return output
