"""Answers on disk, one file each, named by a hash of server and payload. Knows neither servers nor keys."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facesyn.records import write_bytes


class AnswerCache:
    """A folder of answers; None keeps nothing. Several processes may use it: files are written whole or not at all."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, server: str, payload: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was put under that server and payload; None where nothing was, or nothing legible."""
        if self.folder is None:
            return None
        try:
            content = json.loads(self._file(self.folder, server, payload).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def put(self, server: str, payload: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Raises OSError where the folder cannot be written."""
        if self.folder is None:
            return
        file = self._file(self.folder, server, payload)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, json.dumps(answer, ensure_ascii=False, indent=1).encode())

    @staticmethod
    def _file(folder: Path, server: str, payload: Mapping[str, Any]) -> Path:
        text = json.dumps([server, payload], ensure_ascii=False, sort_keys=True)
        name = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
        return folder / name[:2] / f"{name}.json"
