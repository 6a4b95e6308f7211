"""`facesyn doctor` and `facesyn backends`: what runs here."""

import json
from importlib import metadata
from typing import Any

from facesyn.registry import entries


def test_doctor_says_what_runs_here(facesyn: Any) -> None:
    result = facesyn("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["versions"]["torch"] == metadata.version("torch")
    assert "cores" in found["devices"]["cpu"]
    assert set(found["backends"]) == {f"{entry.role} {entry.name}" for entry in entries()}
    assert found["backends"]["prompter template"] == "runs"
    assert found["free_disk_bytes"] > 0


def test_doctor_says_how_to_install_the_rest(facesyn: Any) -> None:
    extras = json.loads(facesyn("doctor", "--json").stdout)["extras"]
    assert {"openai", "llamacpp", "onnx", "onnx-gpu", "pytorch3d", "ray", "datasets", "formats", "c2pa"} == set(extras)
    for extra, answer in extras.items():
        assert answer in ("installed", f"pip install 'facesyn[{extra}]'")


def test_doctor_reads_well(facesyn: Any) -> None:
    said = facesyn("doctor").stdout
    for heading in ("versions", "devices", "backends", "extras", "models"):
        assert f"\n{heading}" in said


def test_backends_are_listed_and_checked(facesyn: Any) -> None:
    listed = json.loads(facesyn("backends", "list", "--json").stdout)
    assert ("prompter", "template") in {(entry["role"], entry["name"]) for entry in listed}
    checked = facesyn("backends", "check", "--json")
    reasons = {(entry["role"], entry["name"]): entry["reason"] for entry in json.loads(checked.stdout)}
    assert set(reasons) == {(entry.role.value, entry.name) for entry in entries()}
    running = {role for (role, _), reason in reasons.items() if reason is None}
    assert checked.exit_code == (0 if running == {role for role, _ in reasons} else 1)
    assert "prompter" in running
