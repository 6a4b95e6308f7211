"""Histograms as paths for SVG: the accepted below, the refused on top, limits as lines. Pure numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from facesyn.reporting.figures import BINS, Figure

WIDTH, HEIGHT = 320, 96


@dataclass(frozen=True)
class Drawn:
    """A figure with the paths of its bars, and its limits and ticks as (x, words)."""

    figure: Figure
    accepted: str
    refused: str
    limits: list[tuple[float, str]]
    ticks: list[tuple[float, str]]
    summary: str


def draw(figure: Figure) -> Drawn:
    """The figure, WIDTH × HEIGHT; the highest bar fills the height."""
    low, high = figure.span
    accepted, refused = figure.counts()
    most = max(1, *(a + r for a, r in zip(accepted, refused, strict=True)))

    def place(value: float) -> float:
        return round(WIDTH * (value - low) / (high - low), 1)

    return Drawn(
        figure,
        _bars(accepted, [0] * BINS, most),
        _bars(refused, accepted, most),
        [(place(limit.value), limit.label) for limit in figure.limits if low <= limit.value <= high],
        [(place(low + part * (high - low) / 4), f"{low + part * (high - low) / 4:.3g}") for part in range(5)],
        _summary(figure),
    )


def _bars(counts: Sequence[int], below: Sequence[int], most: int) -> str:
    width = WIDTH / BINS
    return "".join(
        f"M{number * width + 0.5:.1f} {HEIGHT - HEIGHT * base / most:.1f}"
        f"v{-HEIGHT * count / most:.1f}h{width - 1:.1f}v{HEIGHT * count / most:.1f}z"
        for number, (count, base) in enumerate(zip(counts, below, strict=True))
        if count
    )


def _summary(figure: Figure) -> str:
    words = []
    if quantiles := figure.quantiles():
        low, middle, high = quantiles
        words.append(f"{len(figure.accepted):,} accepted, median {middle:.3g}, 5–95 %: {low:.3g} to {high:.3g}")
    if figure.refused:
        words.append(f"{len(figure.refused):,} refused")
    return "; ".join(words) + "."
