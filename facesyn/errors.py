"""Every error facesyn raises on purpose. The command line prints `str(error)` and `hint`, and exits with `exit_code`.

FacesynError                exit 1
├── UsageError              exit 2   the command line or a recipe asks for something that does not exist
│   └── RecordError                  a row of a JSONL file is malformed; names file and line
├── BackendError                     a backend cannot be loaded or cannot run here
├── ModelError                       weights are missing or of another kind
├── AssetError                       the 3D head's data folder is missing or incomplete
├── ImageError                       a picture is missing, corrupt or over the limits
├── DatasetError                     a dataset is damaged, or cannot be put into a format
└── RunError                         a run folder cannot be written, or belongs to another recipe
"""


class FacesynError(Exception):
    """One sentence that names the thing, and a hint with the next step."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class UsageError(FacesynError):
    """Something asked for does not exist or is not allowed."""

    exit_code = 2


class RecordError(UsageError):
    """A row of a JSONL file is malformed."""


class BackendError(FacesynError):
    """A backend cannot be loaded or cannot run here."""


class ModelError(FacesynError):
    """Weights are missing or are not what was asked for."""


class AssetError(FacesynError):
    """The data folder of the 3D head is missing or incomplete."""


class ImageError(FacesynError):
    """A picture is missing, corrupt or over the size limits."""


class DatasetError(FacesynError):
    """A dataset is damaged, or cannot be put into a format."""


class RunError(FacesynError):
    """A run folder cannot be written or belongs to another recipe."""
