"""Named training protocols: what the field does to a dataset before it says how good it is. Trains nothing.

What a paper leaves open is filled in as its closest relative does it, and said in `note`.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from facesyn.errors import UsageError
from facesyn.registry import suggest


@dataclass(frozen=True)
class Augmentation:
    """Each is applied with its own chance: `crop` keeps a random share of the area, at least `crop_least`."""

    flip: float = 0.5
    crop: float = 0.0
    crop_least: float = 0.2
    jitter: float = 0.0
    jitter_strength: float = 0.5
    low_resolution: float = 0.0
    erase: float = 0.0
    erase_most: float = 0.33


@dataclass(frozen=True)
class Protocol:
    """SGD with momentum 0.9; the rate is divided by 10 at the start of each of `milestones`, counted in epochs."""

    name: str
    backbone: str = "iresnet50"
    head: str = "arcface"
    margin: float = 0.5
    scale: float = 64.0
    epochs: int = 26
    milestones: tuple[int, ...] = (12, 20, 24)
    batch_size: int = 512
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    source_repeats: int = 1
    """How often the source face of a person is seen for once of every other image, where the dataset has sources."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    note: str = ""

    def adapted(self, **changes: Any) -> "Protocol":
        """The protocol with other values where they are not None; milestones keep their share of the epochs."""
        given = {key: value for key, value in changes.items() if value is not None}
        if "epochs" in given:
            given["milestones"] = tuple(round(m / self.epochs * given["epochs"]) for m in self.milestones)
        return replace(self, **given)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, the first being 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_ADAFACE = Augmentation(crop=0.2, jitter=0.2, low_resolution=0.2)

PROTOCOLS = {
    each.name: each
    for each in (
        Protocol(
            "atd",
            epochs=32,
            milestones=(20, 28),
            note="LResNet50E-IR as the paper; head and schedule, which it leaves open, are ArcFace's for CASIA.",
        ),
        Protocol(
            "dcface",
            head="adaface",
            margin=0.4,
            source_repeats=5,
            augmentation=_ADAFACE,
            note="AdaFace's published schedule and augmentation; DCFace released no training code.",
        ),
        Protocol(
            "vec2face",
            augmentation=replace(_ADAFACE, erase=0.2),
            note="ArcFace with AdaFace's augmentation and random erasing; without the squeeze-and-excitation blocks.",
        ),
        Protocol(
            "cemiface",
            head="cosface",
            margin=0.4,
            epochs=40,
            milestones=(26, 34),
            source_repeats=5,
            augmentation=Augmentation(
                crop=1.0, crop_least=0.9, jitter=1.0, jitter_strength=0.1, erase=1.0, erase_most=0.1
            ),
        ),
    )
}


def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UsageError."""
    if name not in PROTOCOLS:
        raise UsageError(f"There is no protocol {name!r}.", hint=suggest(name, PROTOCOLS, "Protocols"))
    return PROTOCOLS[name]
