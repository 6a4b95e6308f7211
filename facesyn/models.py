"""Finds weights: in bundles shipped by packages, in folders, on the model hub. Never loads them."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from facesyn.errors import FacesynError, ModelError
from facesyn.registry import Role, bundle, names, suggest

SAFE_FILES = (
    "*/*.safetensors",
    "diffusion_pytorch_model*.safetensors",
    "model*.safetensors",
    "*.json",
    "*.txt",
    "README.md",
)
"""What is fetched from the hub: never pickles, nor single-file checkpoints beside a diffusers folder."""
VARIANTS = ("*.fp16.*", "*.non_ema.*", "*onnx*", "*openvino*", "*flax*")

UNKNOWN = "unknown"
"""The licence of what does not state one."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Installed:
    """A model on disk; `size` in bytes, `licence` as its card says, or `unknown`."""

    name: str
    part: str
    path: Path
    size: int
    licence: str


def resolve(name: str, part: str) -> Path:
    """The folder of `part` (`ufg`, `atd`, …) of the model `name`: a bundle's name, a folder, or a hub id.

    A hub id is looked up in the Hugging Face cache and fetched where it is missing, unless FACESYN_OFFLINE or
    HF_HUB_OFFLINE is set. Raises ModelError for what cannot be found or fetched.
    """
    if name in names(Role.MODEL):
        folders = bundle(name).folders()
        if part not in folders:
            raise ModelError(f"The model bundle {name!r} has no {part!r}.", hint=suggest(part, folders, "Its parts"))
        if not folders[part].is_dir():
            raise ModelError(
                f"The {part!r} of the model bundle {name!r} is missing: {folders[part]}.",
                hint="Install its package again.",
            )
        return folders[part]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{name} is a file; a model is a folder in the diffusers format.")
    if _HUB_ID.fullmatch(name) and not folder.parent.is_dir():
        return _fetch(name)
    near = [child.name for child in folder.parent.iterdir() if child.is_dir()] if folder.parent.is_dir() else []
    known = [*names(Role.MODEL), *sorted(near)] if folder.parent == Path() else sorted(near)
    raise ModelError(f"There is no model folder {name}.", hint=suggest(folder.name, known, "There"))


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over names and contents of all *.json and *.safetensors below `folder`, by name."""
    digest = hashlib.sha256()
    for file in sorted(_weights(folder), key=lambda file: file.relative_to(folder).as_posix()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def installed() -> list[Installed]:
    """The parts of all bundles that can be loaded, then the diffusers models in the Hugging Face cache."""
    found: list[Installed] = []
    for name in names(Role.MODEL):
        try:
            found += bundled(name)
        except FacesynError:
            continue  # `facesyn backends check` says why
    return found + _cached()


def bundled(name: str) -> list[Installed]:
    """The parts of one bundle that are on disk. Raises as `facesyn.registry.create`."""
    found = bundle(name)
    return [
        Installed(name, part, folder, _size(folder), found.licence)
        for part, folder in sorted(found.folders().items())
        if folder.is_dir()
    ]


def name_of(model: str) -> str:
    """How a model or bank is spoken of: a bundle's name, a hub id or a folder's own name, never a path."""
    path = Path(model).expanduser()
    return path.name if model.startswith((".", "/", "~")) or path.exists() else model


def is_hub_id(name: str) -> bool:
    """Whether `name` is written like a model on the hub; nobody is asked whether there is one."""
    return bool(_HUB_ID.fullmatch(name))


def card_licence(folder: Path) -> str:
    """The licence in the front matter of a folder's model card, as written; or `unknown`."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    front = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    line = re.search(r"^license:[ \t]*(\S.*?)\s*$", front[1], re.MULTILINE) if front else None
    return line[1].strip("'\"") if line else UNKNOWN


def hub_licence(repository: str) -> str:
    """The licence in the card of a model on the hub; only the card is fetched, and offline only the cache is asked."""
    from huggingface_hub import hf_hub_download

    try:
        card = hf_hub_download(repository, "README.md", local_files_only=_offline())
    except Exception:
        # Whatever the client, its transport or the system raise: the licence was not read.
        return UNKNOWN
    return card_licence(Path(card).parent)


def _cached() -> list[Installed]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        for revision in repository.revisions:
            folder = Path(revision.snapshot_path)
            part = _part(folder)
            if repository.repo_type == "model" and part:
                found.append(Installed(repository.repo_id, part, folder, revision.size_on_disk, card_licence(folder)))
    return found


def _part(folder: Path) -> str | None:
    """What a diffusers folder holds: its pipeline or model class; None for a folder of another kind."""
    import json

    for name in ("model_index.json", "config.json"):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and isinstance(said.get("_class_name"), str):
            return str(said["_class_name"])
    return None


def _fetch(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    offline = _offline()
    if os.environ.get("FACESYN_NO_PROGRESS"):
        disable_progress_bars()
    try:
        folder = snapshot_download(
            repository,
            allow_patterns=list(SAFE_FILES),
            ignore_patterns=list(VARIANTS),
            local_files_only=offline,
        )
    except Exception as error:
        # The hub's client raises its own, its transport's and the system's errors; all mean: not fetched.
        raise _not_fetched(repository, offline, error) from error
    return Path(folder)


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(os.environ.get("FACESYN_OFFLINE")) or constants.HF_HUB_OFFLINE


def _not_fetched(repository: str, offline: bool, error: Exception) -> ModelError:
    if offline:
        return ModelError(
            f"The model {repository} is not in the Hugging Face cache, and facesyn is offline.",
            hint="Unset FACESYN_OFFLINE and HF_HUB_OFFLINE to fetch it, or name a folder.",
        )
    if type(error).__name__ == "GatedRepoError":
        return ModelError(
            f"The model {repository} is gated.", hint="Accept its terms on the hub, then run `hf auth login`."
        )
    if type(error).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return ModelError(f"The hub knows no model {repository}.", hint="Check the id, or name a folder.")
    if isinstance(error, OSError) and error.errno is not None and error.filename:
        return ModelError(f"Cannot store the model {repository}: {error.strerror}: {error.filename}.")
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"Cannot fetch the model {repository}: {first}", hint="Check the network, or name a folder.")


def _weights(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.suffix in (".json", ".safetensors") and file.is_file()]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
