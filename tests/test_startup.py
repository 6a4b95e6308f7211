"""The command starts light."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "cv2",
    "diffusers",
    "transformers",
    "ray",
    "openai",
    "facesyn_backends",
    "jinja2",
}

PROBE = """
import atexit, runpy, sys
atexit.register(lambda: print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules})))
sys.argv = ["facesyn", *sys.argv[1:]]
runpy.run_module("facesyn", run_name="__main__")
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["backends", "list"],
        ["prompts", "--help"],
        ["references", "--help"],
        ["models", "--help"],
        ["dataset", "convert", "--help"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    result = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    said, _, loaded = result.stdout.rpartition("LOADED")
    assert said.strip()
    assert "facesyn" in loaded.split()
    assert HEAVY.isdisjoint(loaded.split())


def test_help_costs_less_than_the_limit_of_cpu_time() -> None:
    resource = pytest.importorskip("resource", reason="CPU time of children is measured on POSIX only")

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "facesyn", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)

    assert min(cost() for _ in range(3)) < 0.4
