"""Finds backends by role among installed entry points. Knows roles and names; listing imports no backend."""

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from numbers import Integral, Real
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args

from facesyn.errors import BackendError, FacesynError, UsageError

if TYPE_CHECKING:
    from facesyn.protocols import ModelBundle


_KINDS: dict[Any, tuple[type, str]] = {
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    NoneType: (NoneType, "null"),
}
"""Annotation → what its values must be, for options of these alone: a name may be written like a number."""


class Role(StrEnum):
    """What a backend can be; its entry-point group is `facesyn.<role>s`."""

    PROMPTER = "prompter"
    GENERATOR = "generator"
    TRANSFER = "transfer"
    ENCODER = "encoder"
    DETECTOR = "detector"
    CLASSIFIER = "classifier"
    RENDERER = "renderer"
    EXECUTOR = "executor"
    MODEL = "model"

    @property
    def group(self) -> str:
        return f"facesyn.{self.value}s"

    @property
    def protocol(self) -> type[Any]:
        """The protocol in `facesyn.protocols` that instances satisfy. Imports numpy and PIL."""
        return getattr(import_module("facesyn.protocols"), _PROTOCOLS[self])


_PROTOCOLS = {
    Role.PROMPTER: "PromptWriter",
    Role.GENERATOR: "FaceGenerator",
    Role.TRANSFER: "AttributeTransfer",
    Role.ENCODER: "FaceEncoder",
    Role.DETECTOR: "FaceDetector",
    Role.CLASSIFIER: "AttributeClassifier",
    Role.RENDERER: "Renderer",
    Role.EXECUTOR: "Executor",
    Role.MODEL: "ModelBundle",
}

_REQUIREMENT = re.compile(r"""(?P<name>[A-Za-z0-9._-]+).*;.*extra == ["'](?P<extra>[^"']+)["']""")


@dataclass(frozen=True)
class Entry:
    """One registered backend, not imported."""

    role: Role
    name: str
    target: str
    """`module:attribute`"""
    package: str
    """The distribution that registers it."""
    version: str

    def __str__(self) -> str:
        return f"{self.role} backend {self.name!r}"


def entries(role: Role | str | None = None) -> list[Entry]:
    """All registered backends (of one role), in the order of roles and names. Imports none of them.

    A distribution whose metadata cannot be read is left out: a stranger's broken package must not break ours.
    """
    roles = {each.group: each for each in ([Role(role)] if role else Role)}
    found: dict[tuple[str, str, str], Entry] = {}
    for distribution in metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group in roles]
            package, version = distribution.metadata["Name"], distribution.version
        except Exception:
            continue
        for point in points:
            entry = Entry(roles[point.group], point.name, point.value, package, version)
            found.setdefault((point.group, point.name, package), entry)  # the first on sys.path, as import would
    order = list(Role)
    return sorted(found.values(), key=lambda entry: (order.index(entry.role), entry.name, entry.package))


def names(role: Role | str) -> list[str]:
    """The names registered for a role, sorted."""
    return sorted({entry.name for entry in entries(role)})


def find(role: Role | str, name: str) -> Entry:
    """The entry of that name. Raises UsageError where there is none, BackendError where there are two."""
    role = Role(role)
    found = [entry for entry in entries(role) if entry.name == name]
    if not found:
        raise UsageError(f"There is no {role} backend called {name!r}.", hint=suggest(name, names(role), "Installed"))
    if len(found) > 1:
        packages = " and ".join(entry.package for entry in found)
        raise BackendError(f"The {found[0]} is registered by {packages}.", hint="Uninstall one of them.")
    return found[0]


def load(role: Role | str, name: str) -> type[Any]:
    """The backend's class, imported and able to run here.

    Raises UsageError for an unknown name, BackendError with the reason where it cannot run.
    """
    entry = find(role, name)
    point = metadata.EntryPoint(name=entry.name, value=entry.target, group=entry.role.group)
    try:
        backend: type[Any] = point.load()
        reason = backend.why_unavailable() if hasattr(backend, "why_unavailable") else None
    except FacesynError:
        raise
    except Exception as error:
        # A backend is a stranger's code: whatever it raises here means that it cannot run.
        message = f"The {entry} cannot be loaded: {type(error).__name__}: {_sentence(str(error))}"
        raise BackendError(message, hint=_install_hint(entry)) from error
    if reason:
        raise BackendError(f"The {entry} cannot run here: {_sentence(reason)}", hint=_install_hint(entry))
    return backend


def why_unavailable(entry: Entry) -> str | None:
    """One sentence why a backend cannot be loaded here; None where it can. Imports it, loads no weights."""
    try:
        load(entry.role, entry.name)
    except FacesynError as error:
        return " ".join(filter(None, [str(error), error.hint]))
    return None


def create(role: Role | str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """A backend of that role, made with `options` as keyword arguments; satisfies the role's protocol.

    Raises UsageError for an unknown name or option, BackendError where it cannot run or breaks the protocol.
    """
    role, options = Role(role), dict(options or {})
    backend = load(role, name)
    _check_options(f"{role} backend {name!r}", backend, options)
    instance = backend(**options)
    if not isinstance(instance, role.protocol):
        wanted = _PROTOCOLS[role]
        raise BackendError(f"The {role} backend {name!r} does not satisfy facesyn.protocols.{wanted}.")
    return instance


def option_names(role: Role | str, name: str) -> list[str] | None:
    """The options a backend's constructor takes; None where it takes any. Raises as `load`."""
    parameters = inspect.signature(load(role, name)).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """`["steps=4", "name=x"]` → `{"steps": 4, "name": "x"}`: values are JSON where they parse, else words.

    Raises UsageError for a pair without `=`.
    """
    options: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"Backend option {pair!r} has no value.", hint="Write it as --option steps=4.")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def bundle(name: str) -> "ModelBundle":
    """The model bundle of that name, e.g. `mini`. Raises as `create`."""
    found: ModelBundle = create(Role.MODEL, name)
    return found


def suggest(word: str, known: Iterable[str], heading: str) -> str:
    """A hint: the nearest known word, and all of them."""
    known = list(known)
    if not known:
        return f"{heading}: none."
    near = difflib.get_close_matches(word, known, n=1)
    listing = f"{heading}: {', '.join(known)}."
    return f"Did you mean {near[0]!r}? {listing}" if near else listing


def _check_options(label: str, backend: type[Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(backend).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = {each.name: each for each in parameters if each.kind is not inspect.Parameter.VAR_POSITIONAL}
    for option, value in options.items():
        if option not in known:
            raise UsageError(f"The {label} has no option {option!r}.", hint=suggest(option, known, "Its options"))
        kinds = get_args(known[option].annotation) or (known[option].annotation,)
        if all(kind in _KINDS for kind in kinds) and not any(isinstance(value, _KINDS[kind][0]) for kind in kinds):
            raise UsageError(f"Option {option!r} of the {label} is {_KINDS[kinds[0]][1]}, not {value!r}.")


def missing_packages(distribution: str) -> dict[str, list[str]]:
    """Per extra of a distribution, the packages it names that are not installed."""
    missing: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return missing
    for requirement in requirements:
        if match := _REQUIREMENT.fullmatch(requirement):
            absent = missing.setdefault(match["extra"], [])
            try:
                metadata.version(match["name"])
            except metadata.PackageNotFoundError:
                absent.append(match["name"])
    return missing


def _install_hint(entry: Entry) -> str | None:
    """By convention a distribution's extra bears the name of the backend that needs it."""
    try:
        extras = metadata.metadata(entry.package).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return None
    if entry.name not in extras or missing_packages(entry.package).get(entry.name) == []:
        return None  # nothing that pip could bring
    return f"pip install '{entry.package}[{entry.name}]'"


def _sentence(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return first if first.endswith((".", "!", "?")) else first + "."
