"""Losses from networks that look at latents or their pictures: what they see in an estimate, and what they should.

Know no diffusion.
"""

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from facesyn.atd import sampling
from facesyn.errors import ModelError
from facesyn.evaluation.measures import ssim_map
from facesyn.identity.networks import Recogniser, recognition_crop
from facesyn.training.latent_classifier import LatentAttributeNet
from facesyn.training.latent_recogniser import disturbed, latent_crop
from facesyn.training.loop import Losses

LIKENESS, LEAKAGE = 0.4, 0.15
"""Weights of being near the true picture of the same person, and of not being near the reference's person."""
MARGIN = 0.2
"""Cosine to the reference's person that is no leakage."""


class Judge(Protocol):
    """More loss terms, from what a network sees in the estimate of z_0."""

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """Latents (b, c, h, w), of which only `estimate` gets gradients."""
        ...


def _identity(made: torch.Tensor, wanted: torch.Tensor, shown: torch.Tensor) -> Losses:
    """Terms of the unit embeddings (b, d) of estimate, target and reference."""
    to_target, to_reference, truly = ((a * b).sum(1) for a, b in ((made, wanted), (made, shown), (wanted, shown)))
    leaked = F.relu(to_reference - truly.clamp_min(MARGIN))  # no further than the true picture is
    return {"identity": LIKENESS * (1 - to_target).mean(), "leakage": LEAKAGE * leaked.mean()}


class LatentIdentityJudge:
    """Identity as a loss, by a recogniser of latents.

    The weight does not fall with noise: source and reference tell nearly all of z_0, so the estimate is close at any t.
    The estimate is judged under noise of its own, of up to `NOISE`: what only the exact weights of this one judge
    would take for a likeness does not outlast that.
    """

    def __init__(self, recogniser: Recogniser):
        self.recogniser = recogniser

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """See `Judge`."""
        return _identity(
            *(
                F.normalize(self.recogniser(latent_crop(latents)).float())
                for latents in (disturbed(estimate, generator), target, reference)
            )
        )


class PictureJudge:
    """Identity as a loss, by a recogniser of pictures, and likeness of the pictures themselves (1 − SSIM).

    It needs no judge of latents, which has to be taught first. But decoding is dear, so only `DECODED` samples of a
    batch are shown: of 16, that makes a step of the embedded ATD 1.6 times as long on one CPU core.
    """

    DECODED = 4
    STRUCTURE = 0.4
    GRAIN = 0.1
    """Largest standard deviation of noise on the pictures, of a range of 2."""

    def __init__(self, recogniser: Recogniser, vae: AutoencoderKL):
        self.recogniser, self.vae = recogniser, vae

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """See `Judge`. Grain on the picture does here what noise on latents does in `LatentIdentityJudge`."""
        judged = slice(self.DECODED)
        made, wanted, shown = (
            sampling.decode(self.vae, latents[judged]).float() for latents in (estimate, target, reference)
        )
        similarity = ssim_map((made + 1) / 2, (wanted + 1) / 2).mean()
        grain = self.GRAIN * torch.rand(len(made), 1, 1, 1, generator=generator)
        grainy = made + (grain * torch.randn(made.shape, generator=generator)).to(made)
        identity = _identity(*map(self._seen, (grainy, wanted, shown)))
        return {**identity, "structure": self.STRUCTURE * (1 - similarity)}

    def _seen(self, pictures: torch.Tensor) -> torch.Tensor:
        """(b, d) unit embeddings of pictures and their mirror images."""
        faces = recognition_crop(pictures, self.recogniser.config["size"])
        return F.normalize((self.recogniser(faces) + self.recogniser(faces.flip(3))).float())


class AttributeJudge:
    """Ethnicity, gender and age as a loss: what a classifier of latents says of the true picture, it says here too.

    In colour and in grey, where it has no skin tone to go by. Without this faces come out younger: wrinkles are the
    finest of what makes a face, and the first thing a mean loses.
    """

    WEIGHT = 0.2

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        """Raises ModelError for another kind of model."""
        classifier, found = LatentAttributeNet.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        if found["missing_keys"]:
            raise ModelError(
                f"{folder} holds no classifier of latents that has learned in grey too.",
                hint="Make one with `facesyn train latent-classifier`.",
            )
        self.classifier = classifier.eval().requires_grad_(False).to(device)

    def __call__(
        self,
        estimate: torch.Tensor,
        target: torch.Tensor,
        generator: torch.Generator,
        reference: torch.Tensor | None = None,
    ) -> Losses:
        """See `Judge`: the divergence of what is seen from what should be (Kullback and Leibler 1951), in nats."""
        noisy, colourless = disturbed(estimate, generator), self.classifier.colourless
        in_colour = self._divergence(noisy, target)
        in_grey = self._divergence(colourless(noisy), colourless(target))
        return {name: self.WEIGHT * (in_colour[name] + in_grey[name]) / 2 for name in in_colour}

    def _divergence(self, estimate: torch.Tensor, target: torch.Tensor) -> Losses:
        made, wanted = self.classifier(estimate), self.classifier(target)
        return {
            name: F.kl_div(
                made[name].float().log_softmax(1),
                wanted[name].float().log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
            for name in made
        }


def judges(
    recogniser: Path | None, classifier: Path | None, vae: AutoencoderKL, device: torch.device | str
) -> list[Judge]:
    """Those of which there is a folder: of a recogniser of latents or pictures, of a classifier of latents."""
    found: list[Judge] = []
    if recogniser is not None:
        found.append(_identity_judge(recogniser, vae, device))
    if classifier is not None:
        found.append(AttributeJudge(classifier, device))
    return found


def _identity_judge(folder: Path, vae: AutoencoderKL, device: torch.device | str) -> Judge:
    recogniser = Recogniser.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False).to(device)
    if recogniser.config["channels"] == 3:
        return PictureJudge(recogniser, vae.to(device))
    return LatentIdentityJudge(recogniser)
