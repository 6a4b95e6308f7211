"""Sample sheets: a grid of pictures as one PNG, to be looked at while a training runs."""

from pathlib import Path

import torch
from PIL import Image


def write_sheet(path: Path, rows: torch.Tensor) -> None:
    """`rows`: (rows, columns, 3, h, w) in [-1, 1]."""
    n, m, channels, height, width = rows.shape
    grid = rows.permute(0, 3, 1, 4, 2).reshape(n * height, m * width, channels)
    pixels = ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(path)
