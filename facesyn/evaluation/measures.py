"""Picture measures used while training and evaluating: SSIM, PSNR, mean absolute difference. Works on torch tensors."""

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
