"""Formulated prompts by a language model in a GGUF file, run in this process by llama.cpp."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from facesyn.demographics import Cell
from facesyn.errors import BackendError, ModelError, UsageError
from facesyn.prompting.formulation import load
from facesyn.prompting.requests import Answer, Request
from facesyn.prompting.writing import write_with_model
from facesyn.records import PromptRow

EXAMPLE = "hf download Qwen/Qwen2.5-1.5B-Instruct-GGUF qwen2.5-1.5b-instruct-q4_k_m.gguf --local-dir ."


class LlamaCppWriter:
    """Asks the model at `model`, a GGUF file with a chat template; a grammar holds its answers to the JSON schema.

    threads, gpu_layers, context: None lets llama.cpp choose; −1 is all of them; in tokens.
    batch: people asked for at once. attempts: how often altogether; then templates fill what is left.
    temperature, max_tokens: of the sampling; for one answer, None as many as the context has room for.

    The same file, options and seed give the same rows on the same machine.
    """

    def __init__(
        self,
        model: Path | str | None = None,
        templates: Path | str | None = None,
        threads: int | None = None,
        gpu_layers: int = 0,
        context: int = 8192,
        batch: int = 4,
        attempts: int = 3,
        temperature: float = 0.8,
        max_tokens: int | None = None,
    ):
        if model is None:
            raise UsageError(
                "The llamacpp backend needs a GGUF file.", hint=f"Name it: --model FILE.gguf. Get one: {EXAMPLE}"
            )
        if batch < 1 or attempts < 0 or context < 1:
            raise UsageError("batch and context are at least 1, attempts at least 0.")
        self._file = Path(model).expanduser()
        _check(self._file)
        self._formulation = load(Path(templates) if templates is not None else None)
        self._settings = {
            "n_ctx": context,
            "n_threads": threads,
            "n_threads_batch": threads,
            "n_gpu_layers": gpu_layers,
        }
        self._batch, self._attempts = batch, attempts
        self._temperature, self._max_tokens = float(temperature), max_tokens

    @classmethod
    def why_unavailable(cls) -> str | None:
        try:
            import llama_cpp  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            return f"It needs llama-cpp-python, which is built by a C++ compiler on installation ({error})"
        return None

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        """See `facesyn.protocols.PromptWriter` and `write_with_model`. Raises ModelError for a file of another kind."""
        return write_with_model(
            self._formulation,
            cells,
            self._complete,
            seed=seed,
            first=first,
            facts=self._facts,
            batch=self._batch,
            attempts=self._attempts,
        )

    @cached_property
    def _facts(self) -> dict[str, Any]:
        import llama_cpp

        with self._file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "backend": "llamacpp",
            "model": self._file.name,
            "sha256": digest,
            "temperature": self._temperature,
            "llama_cpp": llama_cpp.__version__,
        }

    @cached_property
    def _llama(self) -> Any:
        from llama_cpp import Llama

        try:
            return Llama(str(self._file), verbose=False, **self._settings)
        except ValueError as error:
            raise ModelError(f"llama.cpp cannot load {self._file}: {error}.", hint=f"Get another: {EXAMPLE}") from error

    def _complete(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            self._llama.reset()  # else the numbers depend on what of the last request is reused
            try:
                answer = self._llama.create_chat_completion(
                    messages=request.messages(schema_in_words=True),
                    # llama.cpp knows the schema under this name only; `json_schema` is ignored without a word
                    response_format={"type": "json_object", "schema": request.schema},
                    seed=request.seed,
                    temperature=self._temperature,
                    max_tokens=self._max_tokens,
                )
            except ValueError as error:
                raise BackendError(
                    f"The model could not answer: {error}.",
                    hint="Is the context too small? Try --option context=16384, or --option batch=2.",
                ) from error
            yield Answer(answer["choices"][0]["message"]["content"])


def _check(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise ModelError(f"Cannot read the model {file}: {error.strerror}.", hint=f"Get one: {EXAMPLE}") from None
    if start != b"GGUF":
        raise ModelError(f"{file} is no GGUF file.", hint=f"Get one: {EXAMPLE}")
