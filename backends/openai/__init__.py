"""Formulated prompts by a language model behind any OpenAI-compatible server."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from facesyn.demographics import Cell
from facesyn.errors import UsageError
from facesyn.out import out
from facesyn.prompting.formulation import load
from facesyn.prompting.writing import write_with_model
from facesyn.records import PromptRow

if TYPE_CHECKING:
    from .server import Structure


class OpenAIWriter:
    """Asks `model` at $OPENAI_BASE_URL (OpenAI itself by default) with the key in $OPENAI_API_KEY.

    batch: people asked for at once. attempts: how often altogether; then templates fill what is left.
    concurrency, requests_per_minute: how many requests are under way at once, and begin per minute at most.
    timeout, retries: seconds for one answer; further tries after errors that may pass (429, 5xx, no connection).
    structured: json_schema, json_object, plain, or auto, which finds out what the server can.
    input_price, output_price: per million tokens; with them the costs are said at the end.
    cache: folder of answers, $FACESYN_CACHE/answers or ~/.cache/facesyn/answers by default; false keeps none.
    extra: further keys of the request, such as {"temperature": 0.9}; null takes one out, such as {"seed": null}.
    """

    def __init__(
        self,
        model: str | None = None,
        templates: Path | str | None = None,
        batch: int = 8,
        attempts: int = 3,
        concurrency: int = 4,
        requests_per_minute: float | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        structured: str = "auto",
        input_price: float | None = None,
        output_price: float | None = None,
        cache: Path | str | bool | None = None,
        extra: Mapping[str, Any] | None = None,
    ):
        from .cache import AnswerCache
        from .server import STRUCTURES, Server, base_url, public

        if not model:
            raise UsageError(
                "The openai backend needs a model.", hint=f"Name one that {public(base_url())} offers: --model NAME"
            )
        if structured not in ("auto", *STRUCTURES):
            raise UsageError(f"There is no {structured!r} way to ask.", hint=f"One of: auto, {', '.join(STRUCTURES)}.")
        if batch < 1 or attempts < 0 or concurrency < 1 or retries < 0 or timeout <= 0:
            raise UsageError("batch, concurrency and timeout are more than 0, attempts and retries at least 0.")
        if extra is not None and not isinstance(extra, Mapping):
            raise UsageError("extra is a JSON object.", hint="""Write it as --option 'extra={"temperature": 0.9}'.""")
        self._formulation = load(Path(templates) if templates is not None else None)
        self._facts = {"backend": "openai", "model": model}
        self._batch, self._attempts = batch, attempts
        self._prices = input_price, output_price
        self._server = Server(
            model,
            AnswerCache(_cache_folder(cache)),
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            timeout=timeout,
            retries=retries,
            structure=None if structured == "auto" else cast("Structure", structured),
            extra=extra or {},
        )

    @classmethod
    def why_unavailable(cls) -> str | None:
        try:
            import openai  # noqa: F401
        except ImportError as error:
            return f"It needs the openai package ({error})"
        if not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
            return (
                "There is no key; run `export OPENAI_API_KEY=KEY`, or for a server that needs none "
                "`export OPENAI_BASE_URL=http://HOST:PORT/v1`"
            )
        return None

    def write(self, cells: Sequence[Cell], *, seed: int, first: int = 0) -> Iterator[PromptRow]:
        """See `facesyn.protocols.PromptWriter` and `write_with_model`.

        Deterministic as far as answers come from the cache; a server need not say the same thing twice.
        """
        try:
            yield from write_with_model(
                self._formulation,
                cells,
                self._server.complete,
                seed=seed,
                first=first,
                facts=self._facts,
                batch=self._batch,
                attempts=self._attempts,
            )
        finally:
            out.note(self._server.usage.describe(*self._prices))


def _cache_folder(chosen: Path | str | bool | None) -> Path | None:
    if chosen is False:
        return None
    if chosen and chosen is not True:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("FACESYN_CACHE") or Path(home) / "facesyn").expanduser() / "answers"
