"""A local HTTP server that speaks the shape of the OpenAI API and says what a test tells it to."""

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Payload = dict[str, Any]


@dataclass
class Reply:
    """An HTTP answer; `body` is sent as it is where it is a string. `hang` holds it back until the server closes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False


Script = Callable[[Payload, int], Reply]
"""From the request's payload and its number, from 0, to the reply."""


class ScriptedServer:
    """Records every request; `answered` counts those that got a completion, by payload."""

    def __init__(self, script: Script):
        self.script = script
        self.payloads: list[Payload] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.answered: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    @contextmanager
    def running(self) -> Iterator["ScriptedServer"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.payloads)
                    server.payloads.append(payload)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    self._send(payload, server.script(payload, number))
                finally:
                    with server._lock:
                        server._at_once -= 1

            def _send(self, payload: Payload, reply: Reply) -> None:
                if reply.hang:
                    server._closing.wait()
                    return
                text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text.encode())))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.status == 200:
                    with server._lock:
                        server.answered[json.dumps(payload, sort_keys=True)] += 1
                self.wfile.write(text.encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


def completion(text: str | None, **message: Any) -> Reply:
    """A chat completion with that text, of 100 tokens in and 50 out."""
    choice = {
        "index": 0,
        "finish_reason": message.pop("finish_reason", "stop"),
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted-1", "choices": [choice]}
    return Reply({**body, "usage": usage})


def refused(status: int, message: str, **headers: str) -> Reply:
    return Reply({"error": {"message": message, "type": "error"}}, status, headers)


def words_of(payload: Payload) -> dict[str, list[str]]:
    """Attribute → the words it may have, wherever the request says so."""
    form = payload.get("response_format", {})
    schema = form["json_schema"]["schema"] if "json_schema" in form else form.get("schema")
    if schema:
        kinds = schema["properties"]["people"]["items"]["properties"]["attributes"]["properties"]
        return {name: kind["enum"] for name, kind in kinds.items()}
    lines = payload["messages"][0]["content"].rpartition("their words:\n")[2].splitlines()
    return {name: words.split(" | ") for name, words in (line.split(": ") for line in lines)}


def people_of(payload: Payload) -> list[tuple[int, str]]:
    """Age and `East Asian woman` of everyone asked for."""
    asked = re.findall(r"^\d+\. an? (\d+) year old ([^,;\n]+)", payload["messages"][1]["content"], re.MULTILINE)
    return [(int(age), who) for age, who in asked]


def descriptions(payload: Payload) -> list[dict[str, Any]]:
    """What an obedient model would say: every person asked for, drawn by the request's seed, in words of its own."""
    rng = random.Random(payload["seed"])
    words = words_of(payload)
    told = []
    for age, who in people_of(payload):
        drawn = {name: rng.choice(choices) for name, choices in words.items()} | {"age": age}
        hair = (
            "a bald head" if drawn["hair_style"] == "bald" else f"{drawn['hair_color']} hair worn {drawn['hair_style']}"
        )
        parts = [
            f"{rng.choice(['an oval-looking', 'a clear'])} gaze from {drawn['eye_color']} eyes",
            f"{drawn['face_shape']} face",
            f"{drawn['skin']} skin",
            hair,
            f"{drawn['nose']} nose above {drawn['lips']} lips",
            f"wearing {drawn['clothing']}",
        ]
        rng.shuffle(parts)
        opening = rng.choice(
            ["passport portrait of", "studio portrait of", "plain portrait showing", "frontal photo of"]
        )
        sentence = f"{opening} a {age} year old {who}, {', '.join(parts)}, neutral expression, looking at the camera"
        told.append({"attributes": drawn, "sentence": sentence})
    return told


def obedient(payload: Payload, number: int) -> Reply:
    return completion(json.dumps({"people": descriptions(payload)}))
