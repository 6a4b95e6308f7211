"""Language models to talk to: a scripted server, a GGUF file of random weights, llama.cpp's own server with that."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .scripted import Script, ScriptedServer

NEEDS = "needs llama-cpp-python (pip install 'facesyn[llamacpp]')"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], ScriptedServer]]:
    """Start a server with that script; the openai backend is pointed to it, with a key."""
    pytest.importorskip("openai", reason="needs the openai package (pip install 'facesyn[openai]')")
    with ExitStack() as running:

        def start(script: Script) -> ScriptedServer:
            server = running.enter_context(ScriptedServer(script).running())
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
            return server

        yield start


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("llama_cpp", reason=NEEDS)
    pytest.importorskip("gguf", reason="making a GGUF file needs gguf (pip install '.[dev]')")
    from .tiny_llm import write_tiny_gguf

    return write_tiny_gguf(tmp_path_factory.mktemp("llm") / "tiny.gguf")


@pytest.fixture(scope="session")
def llama_server(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running `llama_cpp.server`."""
    for package in ("uvicorn", "fastapi", "starlette_context", "pydantic_settings", "sse_starlette"):
        pytest.importorskip(
            package, reason="needs the server of llama-cpp-python (pip install 'llama-cpp-python[server]')"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", tiny_gguf, "--n_ctx", "16384", "--n_threads", "1", "--host", "127.0.0.1", "--port", port]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "llama_cpp.server", *map(str, options)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        url = f"http://127.0.0.1:{port}/v1"
        try:
            for _ in range(1200):
                try:
                    urllib.request.urlopen(f"{url}/models", timeout=5).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
            else:
                pytest.fail(f"llama_cpp.server did not start: {log.read_text()}")
            yield url
        finally:
            process.terminate()
            process.wait()
