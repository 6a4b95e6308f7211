"""The openai backend, against a local server that says what each test tells it to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facesyn.demographics import AgeInterval, Cell, Demographics
from facesyn.errors import BackendError, FacesynError, UsageError
from facesyn.prompting.formulation import load
from facesyn.prompting.screening import Screen
from facesyn.records import PromptRow, read_rows
from facesyn.registry import Role, create, find, why_unavailable
from facesyn.testing import PromptWriterContract

from .scripted import Payload, Reply, Script, ScriptedServer, completion, descriptions, obedient, people_of, refused

Serve = Callable[[Script], ScriptedServer]

KEY = "sk-secret-of-the-test"
CELL = Cell("East Asian", "female", AgeInterval(60, 80))


def writer(**options: Any) -> Any:
    return create(Role.PROMPTER, "openai", {"model": "scripted", **options})


def write(cells: list[Cell], *, seed: int = 1, **options: Any) -> list[PromptRow]:
    return list(writer(**options).write(cells, seed=seed))


def reasons(rows: list[PromptRow]) -> Counter[str]:
    return Counter(each["reason"] for row in rows for each in row.model_extra["formulation"]["rejected"])  # type: ignore[index]


def written_by(rows: list[PromptRow]) -> Counter[str]:
    return Counter(row.model_extra["formulation"]["sentence_by"] for row in rows)  # type: ignore[index]


class TestOpenAIWriter(PromptWriterContract):
    @pytest.fixture(autouse=True)
    def server(self, serve: Serve) -> None:
        serve(obedient)

    def make(self) -> Any:
        return writer()


def test_two_hundred_prompts_over_all_cells(serve: Serve, facesyn: Any, tmp_path: Path) -> None:
    server = serve(obedient)
    file = tmp_path / "prompts.jsonl"
    result = facesyn("prompts", "-n", 200, "--backend", "openai", "--model", "scripted", "-o", file, "--report")
    assert result.exit_code == 0, result.stderr
    rows = read_rows(file, PromptRow)
    cells = Counter(row.cell for row in rows)
    assert cells == Demographics().quotas(200) and len(cells) == 32
    assert len({row.prompt for row in rows}) == 200
    screen = Screen(load(), cells)
    assert not any(screen.reject(row.prompt, row.cell, must_say=True) for row in rows)
    assert written_by(rows)["model"] > 150
    assert sum(len(people_of(payload)) for payload in server.payloads) >= 200
    row = json.loads(file.read_text().splitlines()[0])
    assert row["formulation"]["model"] == "scripted" and row["formulation"]["answered_by"] == "scripted-1"
    assert row["attributes"]["age"] in rows[0].cell.age_interval
    assert "distinct-2" in result.stdout and "rejected for" in result.stdout
    assert f"{len(server.payloads)} answers from the server, 0 from the cache" in result.stderr


def test_nothing_is_paid_for_twice(serve: Serve) -> None:
    server = serve(obedient)
    cells = Demographics().plan(40, seed=1)
    rows = write(cells)
    asked = len(server.payloads)
    assert write(cells) == rows and len(server.payloads) == asked
    assert max(server.answered.values()) == 1
    write(cells, seed=2)
    assert len(server.payloads) > asked


def test_costs_are_said_at_the_end(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(obedient)
    write([CELL] * 3, batch=1, attempts=1, input_price=2.0, output_price=10.0)
    assert len(server.payloads) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 answers from the server, 0 from the cache; 300 tokens in, 150 tokens out, costing 0.0021" in said.err
    write([CELL] * 3, batch=1, attempts=1)
    assert "0 answers from the server, 3 from the cache; 0 tokens in, 0 tokens out." in capsys.readouterr().err


@pytest.mark.parametrize(
    "first", [refused(429, "slow down", **{"Retry-After": "1"}), refused(500, "oops"), refused(503, "busy")]
)
def test_what_may_pass_is_tried_again(serve: Serve, first: Reply) -> None:
    server = serve(lambda payload, number: first if number == 0 else obedient(payload, number))
    rows = write([CELL] * 2, structured="json_schema")
    assert len(server.payloads) >= 2 and server.payloads[0] == server.payloads[1]
    assert written_by(rows)["model"] == 2


def test_retry_after_is_honoured(serve: Serve) -> None:
    times: list[float] = []

    def script(payload: Payload, number: int) -> Reply:
        times.append(time.monotonic())
        return refused(429, "slow down", **{"Retry-After": "2"}) if number == 0 else obedient(payload, number)

    serve(script)
    write([CELL], structured="json_schema", attempts=1)
    assert times[1] - times[0] >= 2  # without the header it would be half a second


def test_a_server_that_stays_broken_is_one_sentence(serve: Serve, facesyn: Any, tmp_path: Path) -> None:
    serve(lambda payload, number: refused(500, "out of order"))
    arguments = ["--model", "scripted", "--option", "retries=1", "-o", tmp_path / "prompts.jsonl"]
    result = facesyn("prompts", "-n", 4, "--backend", "openai", *arguments)
    assert result.exit_code == 1 and "out of order" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "prompts.jsonl").exists()


def test_a_server_that_hangs_is_given_up(serve: Serve) -> None:
    serve(lambda payload, number: Reply(hang=True))
    with pytest.raises(BackendError, match=r"did not answer within 0\.2 s") as error:
        write([CELL], timeout=0.2, retries=1, structured="plain")
    assert "--option timeout=300" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("known", "status"), [("json_schema", 400), ("json_object", 500), ("json_object", 400), ("plain", 422)]
)
def test_a_server_is_asked_in_the_way_it_knows(serve: Serve, known: str, status: int) -> None:
    def script(payload: Payload, number: int) -> Reply:
        kind = payload.get("response_format", {}).get("type", "plain")
        return obedient(payload, number) if kind == known else refused(status, f"unknown response_format {kind}")

    server = serve(script)
    cells = Demographics().plan(64, seed=1)
    assert written_by(write(cells, retries=0))["model"] > 40
    asked = len(server.payloads)
    assert sum(server.answered.values()) >= asked - 2  # at most one try for either of the others
    write(cells, retries=0, seed=2)
    kinds = {payload.get("response_format", {}).get("type", "plain") for payload in server.payloads[asked:]}
    assert kinds == {known}  # remembered


def test_a_server_that_ignores_schemas_is_told_in_words(serve: Serve) -> None:
    def script(payload: Payload, number: int) -> Reply:
        if "response_format" in payload:
            return completion("Certainly! Here are some portraits you may like.")
        return completion(f"Sure:\n```json\n{json.dumps({'people': descriptions(payload)})}\n```\nAnything else?")

    server = serve(script)
    assert written_by(write([CELL] * 8))["model"] >= 6
    assert "response_format" not in server.payloads[-1]


def test_an_enforced_schema_has_only_keywords_that_every_server_takes(serve: Serve) -> None:
    server = serve(obedient)
    write([CELL])
    form = server.payloads[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    text = json.dumps(form)
    assert "minLength" not in text and "maxItems" not in text and '"additionalProperties": false' in text


def test_prose_alone_is_filled_from_templates(serve: Serve) -> None:
    server = serve(lambda payload, number: completion("I would rather talk about the weather."))
    rows = write([CELL] * 8, structured="json_schema")
    assert written_by(rows) == {"template": 8} and reasons(rows) == {"unreadable": 24}
    assert len(server.payloads) == 3  # bounded


@pytest.mark.parametrize("reply", [completion(None, refusal="No."), completion("", finish_reason="content_filter")])
def test_refusals_are_counted_and_filled(serve: Serve, reply: Reply) -> None:
    serve(lambda payload, number: reply)
    rows = write([CELL] * 4, attempts=2)
    assert written_by(rows) == {"template": 4} and reasons(rows) == {"refused": 8}


def test_of_a_truncated_answer_the_whole_descriptions_are_kept(serve: Serve) -> None:
    def script(payload: Payload, number: int) -> Reply:
        text = json.dumps({"people": descriptions(payload)})
        return (
            completion(text[: int(len(text) * 0.6)], finish_reason="length")
            if number == 0
            else obedient(payload, number)
        )

    server = serve(script)
    rows = write([CELL] * 8)
    assert "missing" in reasons(rows) and written_by(rows)["model"] >= 7
    first, second = (len(people_of(payload)) for payload in server.payloads[:2])
    assert first == 8 and 3 <= second < 8


@pytest.mark.parametrize("body", ['{"choices": [', '{"object": "page"}', '{"choices": []}', '"hello"', "<html></html>"])
def test_a_body_of_another_shape_is_one_sentence(serve: Serve, body: str) -> None:
    serve(lambda payload, number: Reply(body))
    with pytest.raises(BackendError, match="does not answer in the shape of the OpenAI API") as error:
        write([CELL], retries=0)
    assert "/v1" in (error.value.hint or "")


def test_rejected_descriptions_are_asked_for_again(serve: Serve) -> None:
    def script(payload: Payload, number: int) -> Reply:
        told = descriptions(payload)
        if number == 0:
            told[0]["sentence"] = told[0]["sentence"].replace("year old", "year old, young-looking")
            told[1]["sentence"] = told[1]["sentence"].replace("woman", "man")
            told[2]["attributes"]["face_shape"] = "hexagonal"
            told[3]["sentence"] = told[3]["sentence"].replace(", neutral", ", a lookalike of Jane Fonda, neutral")
        return completion(json.dumps({"people": told}))

    server = serve(script)
    rows = write([CELL] * 4)
    assert reasons(rows) >= Counter(age=1, gender=1, attributes=1, name=1)
    assert len(people_of(server.payloads[1])) == 4
    assert "age, attributes, gender, name" in server.payloads[1]["messages"][1]["content"]
    assert written_by(rows)["model"] >= 3


def test_requests_run_at_once_within_the_limit(serve: Serve) -> None:
    def script(payload: Payload, number: int) -> Reply:
        time.sleep(0.1)
        return obedient(payload, number)

    server = serve(script)
    write(Demographics().plan(32, seed=1), concurrency=3, structured="json_schema", attempts=1)
    assert server.most_at_once == 3 and len(server.payloads) == 32


def test_requests_begin_no_faster_than_asked(serve: Serve) -> None:
    times: list[float] = []

    def script(payload: Payload, number: int) -> Reply:
        times.append(time.monotonic())
        return obedient(payload, number)

    serve(script)
    write([CELL] * 4, batch=1, attempts=1, structured="json_schema", requests_per_minute=240)
    assert times[-1] - times[0] >= 0.6  # three intervals of a quarter second


def test_extra_keys_go_into_the_request(serve: Serve) -> None:
    server = serve(lambda payload, number: completion("{}"))
    write([CELL], extra={"temperature": 0.7, "seed": None, "top_k": 9}, attempts=1)
    assert server.payloads[0]["temperature"] == 0.7 and server.payloads[0]["top_k"] == 9
    assert "seed" not in server.payloads[0]


def test_killed_and_run_again_nothing_answered_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    held = 9
    killed = False

    def script(payload: Payload, number: int) -> Reply:
        return Reply(hang=True) if number >= held and not killed else obedient(payload, number)

    server = serve(script)
    cache, file = tmp_path / "answers", tmp_path / "prompts.jsonl"
    arguments = [
        "-n",
        "96",
        "--backend",
        "openai",
        "--model",
        "scripted",
        "--option",
        f"cache={cache}",
        "-o",
        str(file),
    ]
    command = [sys.executable, "-m", "facesyn", "prompts", *arguments]
    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.PIPE)
    while len(server.payloads) < held + 4 or len(list(cache.rglob("*.json"))) < held + 1:  # and one about the server
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not file.exists() and sum(server.answered.values()) == held
    before = len(server.payloads)
    killed = True
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert set(server.answered.values()) == {1}
    assert f"{held} from the cache" in result.stderr
    rows = file.read_text()
    assert subprocess.run(command, capture_output=True).returncode == 0 and file.read_text() == rows
    assert len(server.payloads) - before == sum(server.answered.values()) - held  # the third run asked nothing


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_key_is_never_shown(
    serve: Serve, facesyn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def script(payload: Payload, number: int) -> Reply:
        if status != 200:
            return refused(status, f"Bad key in header Authorization: Bearer {KEY}")
        told = descriptions(payload)
        for each in told:
            each["sentence"] += f", key {KEY}"
        return completion(json.dumps({"people": told}))

    server = serve(script)
    monkeypatch.setenv("FACESYN_DEBUG", "1")
    monkeypatch.setenv("OPENAI_LOG", "debug")
    file = tmp_path / "prompts.jsonl"
    command = [sys.executable, "-m", "facesyn", "prompts", "-n", "4", "--backend", "openai", "--model", "scripted"]
    command += ["--option", "retries=0", "--option", "structured=json_schema", "-o", str(file)]  # all four at once
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == (0 if status == 200 else 1), result.stderr
    assert any(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)  # it was used
    cached = [path.read_text() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    written = [file.read_text()] if status == 200 else []
    assert (status == 200) == bool(cached) == bool(written)
    for text in [result.stdout, result.stderr, *cached, *written]:
        assert KEY not in text
    assert "Traceback" in result.stderr or status == 200


def test_a_missing_key_is_said_before_anything_is_asked(facesyn: Any) -> None:
    result = facesyn("prompts", "-n", 1, "--backend", "openai", "--model", "any")
    assert result.exit_code == 1 and "export OPENAI_API_KEY=KEY" in result.stderr
    assert "pip install" not in result.stderr
    assert "export OPENAI_API_KEY=KEY" in (why_unavailable(find(Role.PROMPTER, "openai")) or "")  # as in `doctor`


def test_a_missing_package_is_said(facesyn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    result = facesyn("prompts", "-n", 1, "--backend", "openai", "--model", "any")
    assert result.exit_code == 1 and "needs the openai package" in result.stderr


def test_a_missing_server_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:password@127.0.0.1:9/v1")
    with pytest.raises(BackendError, match=r"The server http://127\.0\.0\.1:9/v1 cannot be reached") as error:
        write([CELL], retries=0)
    assert "export OPENAI_BASE_URL" in (error.value.hint or "")


def test_offline_means_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(BackendError, match="facesyn is offline"):
        writer()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": None}, "--model NAME"),
        ({"structured": "yaml"}, "One of: auto"),
        ({"batch": 0}, "more than 0"),
        ({"extra": "temperature"}, "JSON object"),
        ({"temprature": 1}, "no option 'temprature'"),
    ],
)
def test_bad_options_are_named(serve: Serve, options: dict[str, Any], says: str) -> None:
    serve(obedient)
    with pytest.raises(UsageError) as error:
        writer(**options)
    assert says in f"{error.value} {error.value.hint}"


def test_an_unknown_model_is_said(serve: Serve) -> None:
    serve(lambda payload, number: refused(404, "The model scripted does not exist"))
    with pytest.raises(FacesynError, match="does not exist") as error:
        write([CELL])
    assert "/models" in (error.value.hint or "")


def test_a_spoilt_cache_is_asked_anew(serve: Serve, tmp_path: Path) -> None:
    server = serve(obedient)
    rows = write([CELL] * 2, cache=str(tmp_path / "answers"))
    for file in (tmp_path / "answers").rglob("*.json"):
        file.write_text("{")
    asked = len(server.payloads)
    assert write([CELL] * 2, cache=str(tmp_path / "answers")) == rows and len(server.payloads) > asked
    write([CELL] * 2, cache=False)
    assert len(server.payloads) > asked + 1
