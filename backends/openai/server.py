"""Talks to one OpenAI-compatible server: what it can do, how fast it may be asked, what it cost, what its errors mean.

Retries, backoff, Retry-After and timeouts are those of the `openai` package. The key is read from the environment,
handed to that package, and struck out of everything that the server says.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import openai

from facesyn.errors import BackendError
from facesyn.prompting.requests import Answer, Request, json_in

from .cache import AnswerCache

Structure = Literal["json_schema", "json_object", "plain"]

STRUCTURES: tuple[Structure, ...] = ("json_schema", "json_object", "plain")
"""How an answer's form is asked for, from what OpenAI knows to what every server knows: a schema that is enforced; the
schema the way llama.cpp's server enforces it, and in words; in words alone."""

OFFICIAL = "https://api.openai.com/v1"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_CANNOT = (400, 415, 422, 500, 501)
"""How servers answer to a `response_format` they do not know; llama.cpp's says 500."""
_PROBE_RETRIES = 2
_SHORTEST_KEY = 8
_BOUNDS = ("minLength", "maxLength", "minItems", "maxItems")
"""Keywords that some servers refuse in an enforced schema."""


def base_url() -> str:
    return os.environ.get("OPENAI_BASE_URL", "").rstrip("/") or OFFICIAL


def public(url: str) -> str:
    """An address without a user, password or query that it may hold."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass
class Usage:
    """What was asked and what it cost. Prices are per million tokens; answers from the cache cost nothing again."""

    asked: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def describe(self, input_price: float | None, output_price: float | None) -> str:
        said = f"{self.asked} answers from the server, {self.cached} from the cache; "
        said += f"{self.input_tokens:,} tokens in, {self.output_tokens:,} tokens out"
        if input_price is None and output_price is None:
            return f"{said}."
        cost = (self.input_tokens * (input_price or 0) + self.output_tokens * (output_price or 0)) / 1e6
        return f"{said}, costing {cost:.4f} at the given prices."


class Server:
    """One server and model. `structure` None finds out by itself, on the first request."""

    def __init__(
        self,
        model: str,
        cache: AnswerCache,
        *,
        concurrency: int,
        requests_per_minute: float | None,
        timeout: float,
        retries: int,
        structure: Structure | None,
        extra: Mapping[str, Any],
    ):
        self.url = base_url()
        self.usage = Usage()
        self._model, self._cache, self._extra = model, cache, extra
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self._concurrency, self._timeout, self._retries = concurrency, timeout, retries
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._about = {"model": model, "asks": "structure"}
        known = (cache.get(self.url, self._about) or {}).get("structure")
        self._structure: Structure | None = structure or (known if known in STRUCTURES else None)
        local = urlsplit(self.url).hostname in _LOCAL
        if os.environ.get("FACESYN_OFFLINE") and not local:
            raise BackendError(f"facesyn is offline, and {self._name} is not.", hint="unset FACESYN_OFFLINE")

    def complete(self, requests: Sequence[Request]) -> Iterator[Answer]:
        """The answers in the order of the requests, as they come.

        Raises BackendError where one cannot be had; those that came by then are in the cache.
        """
        with asyncio.Runner() as runner:
            answers = self._complete(requests)
            for _ in requests:
                yield runner.run(_next(answers))

    async def _complete(self, requests: Sequence[Request]) -> AsyncIterator[Answer]:
        limit = asyncio.Semaphore(self._concurrency)
        async with openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=self.url, timeout=self._timeout, max_retries=self._retries
        ) as client:

            async def one(request: Request) -> Answer:
                async with limit:
                    return await self._answer(client, request, self._structure or STRUCTURES[-1])

            try:
                if self._structure is None:
                    yield await self._find_structure(client, requests[0])
                    requests = requests[1:]
                tasks = [asyncio.create_task(one(request)) for request in requests]
                everything = asyncio.gather(*tasks, return_exceptions=True)  # else asyncio prints errors nobody awaits
                for task in tasks:
                    yield await task
                await everything
            except openai.OpenAIError as error:
                raise self._explain(error) from None  # its traceback may quote what was sent
            except ValueError:
                raise self._alien() from None

    async def _find_structure(self, client: Any, request: Request) -> Answer:
        """Settle on the first structure to which the server gives JSON, else the last; the answer to the request."""
        impatient = client.with_options(max_retries=min(self._retries, _PROBE_RETRIES))
        for structure in STRUCTURES:
            try:
                answer = await self._answer(impatient, request, structure)
            except openai.APIStatusError as error:
                if error.status_code not in _CANNOT or structure == STRUCTURES[-1]:
                    raise
                continue
            if answer.text is None or json_in(answer.text) is not None:
                break
        self._structure = structure
        self._cache.put(self.url, self._about, {"structure": structure})
        return answer

    async def _answer(self, client: Any, request: Request, structure: Structure) -> Answer:
        payload = self._payload(request, structure)
        found = self._cache.get(self.url, payload)
        if found is None:
            found = await self._ask(client, payload)
            self._cache.put(self.url, payload, found)
            self.usage.asked += 1
            self.usage.input_tokens += found["input_tokens"]
            self.usage.output_tokens += found["output_tokens"]
        else:
            self.usage.cached += 1
        return Answer(found["text"], {"answered_by": found["model"]})

    async def _ask(self, client: Any, payload: Mapping[str, Any]) -> dict[str, Any]:
        await self._wait_for_turn()
        further = {key: value for key, value in payload.items() if key not in ("model", "messages")}
        said = await client.chat.completions.create(
            model=payload["model"], messages=payload["messages"], extra_body=further
        )
        choices, usage = getattr(said, "choices", None), getattr(said, "usage", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise self._alien()
        refused = getattr(choices[0].message, "refusal", None) or choices[0].finish_reason == "content_filter"
        return {
            "text": None if refused else self._struck(choices[0].message.content or ""),
            "model": self._struck(str(said.model or payload["model"])),
            "finish_reason": choices[0].finish_reason,
            "input_tokens": getattr(usage, "prompt_tokens", None) or 0,
            "output_tokens": getattr(usage, "completion_tokens", None) or 0,
        }

    async def _wait_for_turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next) + self._interval
        await asyncio.sleep(self._next - self._interval - now)

    def _payload(self, request: Request, structure: Structure) -> dict[str, Any]:
        formats: dict[str, Any] = {
            "json_schema": {
                "type": "json_schema",
                "json_schema": {"name": "people", "strict": True, "schema": _without_bounds(request.schema)},
            },
            "json_object": {"type": "json_object", "schema": request.schema},
            "plain": None,
        }
        payload = {
            "model": self._model,
            "messages": request.messages(schema_in_words=structure != "json_schema"),
            "seed": request.seed,
            "response_format": formats[structure],
            **self._extra,
        }
        return {key: value for key, value in payload.items() if value is not None}

    def _explain(self, error: openai.OpenAIError) -> BackendError:
        kept = "" if self._cache.folder is None else " What was answered so far is kept: run the same command again."
        if isinstance(error, openai.APITimeoutError):
            return BackendError(
                f"{self._name} did not answer within {self._timeout:g} s.",
                hint=f"Allow more: --option timeout=300.{kept}",
            )
        if isinstance(error, openai.APIConnectionError):
            return BackendError(
                f"{self._name} cannot be reached.",
                hint=f"Start it, or say where it is: export OPENAI_BASE_URL=http://HOST:PORT/v1.{kept}",
            )
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        said = self._struck(" ".join(str(error).split()))[:300]
        hints = {
            401: "Set a key that is valid there: export OPENAI_API_KEY=KEY",
            403: "Set a key that is allowed there: export OPENAI_API_KEY=KEY",
            404: f"See what there is: curl {public(self.url)}/models (the address usually ends in /v1)",
            429: f"Ask more slowly: --option requests_per_minute=20, or look at the account's quota.{kept}",
        }
        return BackendError(f"{self._name} refuses: {said}", hint=hints.get(status or 0, kept.strip() or None))

    def _alien(self) -> BackendError:
        return BackendError(
            f"{self._name} does not answer in the shape of the OpenAI API.",
            hint="Check the address, which usually ends in /v1: export OPENAI_BASE_URL=http://HOST:PORT/v1",
        )

    @property
    def _name(self) -> str:
        return f"The server {public(self.url)}"

    def _struck(self, text: str) -> str:
        # A stand-in such as "x", for servers that want none, is no secret and would be found in ordinary words.
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_KEY else text


async def _next(answers: AsyncIterator[Answer]) -> Answer:
    return await anext(answers)


def _without_bounds(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_bounds(each) for each in schema]
    if isinstance(schema, Mapping):
        return {key: _without_bounds(each) for key, each in schema.items() if key not in _BOUNDS}
    return schema
