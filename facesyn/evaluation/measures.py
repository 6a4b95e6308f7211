"""Measures on pictures and on features of pictures: SSIM, PSNR, edge agreement, Fréchet distance. Know no model."""

import numpy as np
import torch
import torch.nn.functional as F


def _window(size: int = 11, sigma: float = 1.5) -> torch.Tensor:
    x = torch.arange(size) - size // 2
    g = torch.exp(-(x.float() ** 2) / (2 * sigma**2))
    return g / g.sum()


def ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Structural similarity per pixel and channel (Wang et al. 2004: 11 × 11 Gaussian window, σ = 1.5).

    `a`, `b`: (n, c, h, w) in [0, 1]; edges are reflected, so the map has the same shape.
    """
    with torch.autocast(a.device.type, enabled=False):  # variances cancel away in half precision
        return _ssim_map(a.float(), b.float())


def _ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    channels = a.shape[1]
    g = _window().to(a)
    row = g.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    column = g.view(1, 1, -1, 1).expand(channels, 1, -1, 1)

    def blur(x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (5, 5, 5, 5), mode="reflect")
        return F.conv2d(F.conv2d(x, row, groups=channels), column, groups=channels)

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * ma * mb + c1) * (2 * cov + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB per picture; `a`, `b`: (n, c, h, w) in [0, 1]."""
    return -10 * torch.log10((a - b).square().flatten(1).mean(1).clamp_min(1e-10))


def edge_f1(found: np.ndarray, wanted: np.ndarray, tolerance: float = 0.0075) -> float:
    """F1 of edge pixels, each matched within `tolerance` of the diagonal (Martin, Fowlkes and Malik 2004).

    `found`, `wanted`: (h, w) bool. Two empty maps agree; an empty and a full one don't.
    """
    import cv2

    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    reach = tolerance * float(np.hypot(*found.shape))
    to_found, to_wanted = (
        cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 5) for edges in (found, wanted)
    )
    precision, recall = float((to_wanted[found] <= reach).mean()), float((to_found[wanted] <= reach).mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features (n, d) and (m, d) (Heusel et al. 2017, eq. 6)."""
    mean = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    first, second = (np.cov(features.astype(np.float64), rowvar=False) for features in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()  # the same trace, of a symmetric matrix
    return mean + float(np.trace(first) + np.trace(second) - 2 * cross)
