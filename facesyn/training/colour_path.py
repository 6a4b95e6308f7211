"""A way through a trained autoencoder for the one colour axis that faces lack: green against magenta. Trains nothing.

    python -m facesyn.training.colour_path RUNS/autoencoder RENDERS RUNS/coloured

Skin, hair and most backgrounds hardly vary along it, so an autoencoder of faces gives it up within its first steps, and
neither side has a reason to bring it back: what the decoder ignores, the encoder is never asked for. This lays one
channel per level, and the latent channel that is missed least, as a path for it. Training goes on from `RUNS/coloured`
with `facesyn train autoencoder --start` and takes it up. Laid into a fresh network, it is washed away at once.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from facesyn.rendered import read_shards
from facesyn.training.autoencoder import new_autoencoder

AXIS = torch.tensor([-1.0, 2.0, -1.0]) / 6**0.5
"""Of red, green and blue."""
ENTRY = 8.0
"""How much louder than a pixel the axis is made where it enters, so that group norms do not drown it."""
GAIN = 3.0
"""At every change of resolution: the other channels of its group grow as well."""
LOG_VARIANCE = -6.0
"""Of its latent channel: hardly any noise."""


@torch.no_grad()
def lay_colour_path(model: AutoencoderKL, pictures: torch.Tensor) -> None:
    """The last channel of every level carries `AXIS` from a picture to one latent channel and back.

    Which one, and how loud it leaves, is measured on `pictures` (n, 3, h, w) in [-1, 1].
    """
    encoder, decoder = model.encoder, model.decoder
    latent = _spare(model, pictures)
    _alone(encoder.conv_in, -1, slice(None), AXIS[:, None, None] * _centre(3) * ENTRY)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            _pass(resnet)
        for sampler in block.downsamplers or ():
            mean = torch.zeros(3, 3)
            mean[:2, :2] = GAIN / 4
            _alone(sampler.conv, -1, -1, mean)
    for resnet in (*encoder.mid_block.resnets, *decoder.mid_block.resnets):
        _pass(resnet)
    _open(encoder.conv_norm_out)
    _alone(encoder.conv_out, latent, -1, _centre(3))
    noise = int(model.config["latent_channels"]) + latent  # means come first, then log variances
    _alone(model.quant_conv, latent, latent, _centre(1))
    model.quant_conv.weight[noise], model.quant_conv.bias[noise] = 0, LOG_VARIANCE
    _alone(model.post_quant_conv, latent, latent, _centre(1))
    _alone(decoder.conv_in, -1, latent, _centre(3))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            _pass(resnet)
        for sampler in block.upsamplers or ():
            _alone(sampler.conv, -1, -1, _centre(3) * GAIN)
    _open(decoder.conv_norm_out)
    slope, mean_level = _fit(model, pictures)
    decoder.conv_out.weight[:, -1] = AXIS[:, None, None] * _centre(3) * slope
    decoder.conv_out.bias -= AXIS * slope * mean_level


def _spare(model: AutoencoderKL, pictures: torch.Tensor) -> int:
    """The latent channel that pictures change least without."""
    latents = model.encode(pictures).latent_dist.mode()
    whole = model.decode(latents).sample
    costs = []
    for channel in range(latents.shape[1]):
        without = latents.clone()
        without[:, channel] = latents[:, channel].mean()
        costs.append(float((model.decode(without).sample - whole).abs().mean()))
    return int(np.argmin(costs))


def _fit(model: AutoencoderKL, pictures: torch.Tensor) -> tuple[float, float]:
    """Slope and mean with which what arrives before the last convolution stands for the axis in the pictures."""
    arrived: list[torch.Tensor] = []
    hook = model.decoder.conv_out.register_forward_pre_hook(lambda module, inputs: arrived.append(inputs[0]))
    model.decoder.conv_out.weight[:, -1] = 0
    model.decode(model.encode(pictures).latent_dist.mode())
    hook.remove()
    x = F.avg_pool2d(arrived[0][:, -1:], 8).flatten()
    y = F.avg_pool2d(torch.einsum("nchw,c->nhw", pictures, AXIS)[:, None], 8).flatten()
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return float(covariance / x.var(correction=0)), float(x.mean())


def _centre(size: int) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


def _alone(conv: nn.Conv2d, output: int, source: int | slice, kernel: torch.Tensor) -> None:
    """Channel `output` of a convolution hears `source` and nothing else; of a single `source` nobody else hears."""
    if isinstance(source, int):
        conv.weight[:, source] = 0
    conv.weight[output] = 0
    conv.weight[output, source] = kernel
    if conv.bias is not None:
        conv.bias[output] = 0


def _pass(resnet: ResnetBlock2D) -> None:
    """The last channel goes through as it is: the residual branch neither hears it nor adds to it."""
    resnet.conv1.weight[:, -1] = 0
    resnet.conv2.weight[-1], resnet.conv2.bias[-1] = 0, 0
    if resnet.conv_shortcut is not None:
        _alone(resnet.conv_shortcut, -1, -1, _centre(1))


def _open(norm: nn.GroupNorm) -> None:
    norm.weight[-1], norm.bias[-1] = 1, 0


def main(run: Path, renders: Path, output: Path) -> None:
    """Lay the path into the average of a training `run`; `output` becomes a run to start from."""
    model = new_autoencoder()
    model.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["average"])
    faces = read_shards(renders, limit=96)
    lay_colour_path(model, faces.batch(np.arange(0, len(faces), 3)))
    output.mkdir(parents=True, exist_ok=True)
    torch.save({"average": model.state_dict()}, output / "checkpoint.pt")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
