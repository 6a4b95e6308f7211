"""Losses from networks that look at latents or their pictures: what they see in an estimate, and what they should.

Know no diffusion.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from facesyn.atd import sampling
from facesyn.errors import ModelError
from facesyn.evaluation.measures import ssim_map
from facesyn.identity.networks import AttributeNet, Recogniser, recognition_crop, summed_embeddings
from facesyn.training.classifier import grey
from facesyn.training.latent_classifier import LatentAttributeNet
from facesyn.training.latent_recogniser import disturbed, latent_crop
from facesyn.training.loop import Losses

STRUCTURE = 1.2
"""Weight of how near pictures are."""
LIKENESS, LEAKAGE = 0.4, 0.15
"""Weights of being near the true picture of the same person, and of not being near the reference's person."""
ATTRIBUTES = 0.2
"""Weight of the divergence about each attribute."""
RGB = 3
"""Channels of pictures; latents have others."""
MARGIN = 0.2
"""Cosine to the reference's person that is no leakage."""


class Judge(Protocol):
    """More loss terms, from what a network sees in the estimate of z_0."""

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """Latents (b, c, h, w), of which only `estimate` gets gradients; `reference` shows somebody else."""
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
    """Identity and attributes as a loss, by networks that look at pictures, and the pictures' likeness (1 − SSIM).

    `structure` is the weight of the last; without any it is not looked at.

    They need no judge of latents, which has to be taught first. But decoding is dear, so only `DECODED` samples of a
    batch are shown: of 16, that makes a step of the embedded ATD 1.2 to 1.6 times as long on one CPU core.
    """

    DECODED = 4
    GRAIN = 0.1
    """Largest standard deviation of noise on the pictures, of a range of 2."""

    def __init__(
        self, vae: AutoencoderKL, recogniser: Recogniser | None, classifier: AttributeNet | None, structure: float
    ):
        self.vae, self.recogniser, self.classifier, self.structure = vae, recogniser, classifier, structure

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """See `Judge`. Grain on the picture does here what noise on latents does in `LatentIdentityJudge`."""
        judged = slice(self.DECODED)
        made, wanted, shown = (
            sampling.decode(self.vae, latents[judged]).float() for latents in (estimate, target, reference)
        )
        grain = self.GRAIN * torch.rand(len(made), 1, 1, 1, generator=generator)
        grainy = made + (grain * torch.randn(made.shape, generator=generator)).to(made)
        terms: dict[str, torch.Tensor] = {}
        if self.structure:
            terms["structure"] = self.structure * (1 - ssim_map((made + 1) / 2, (wanted + 1) / 2).mean())
        if self.recogniser is not None:
            terms |= _identity(*(_seen(self.recogniser, pictures) for pictures in (grainy, wanted, shown)))
        if self.classifier is not None:
            terms |= _attributes(self.classifier, grey, grainy, wanted)
        return terms


def _seen(recogniser: Recogniser, pictures: torch.Tensor) -> torch.Tensor:
    """(b, d) unit embeddings of pictures and their mirror images."""
    return summed_embeddings(recogniser, recognition_crop(pictures, recogniser.config["size"]))


def _attributes(
    classifier: AttributeNet,
    colourless: Callable[[torch.Tensor], torch.Tensor],
    made: torch.Tensor,
    wanted: torch.Tensor,
) -> Losses:
    """The divergence of what is seen from what should be (Kullback and Leibler 1951), in nats.

    In colour and in grey, where there is no skin tone to go by. Without this faces come out younger: wrinkles are the
    finest of what makes a face, and the first thing a mean loses.
    """
    total: dict[str, torch.Tensor] = {}
    for look in (lambda faces: faces, colourless):
        seen, truly = classifier(look(made)), classifier(look(wanted))
        for name, scores in seen.items():
            divergence = F.kl_div(
                scores.float().log_softmax(1),
                truly[name].float().log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
            total[name] = total.get(name, 0) + ATTRIBUTES / 2 * divergence
    return total


class AttributeJudge:
    """Ethnicity, gender and age as a loss: what a classifier of latents says of the true picture, it says here too."""

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
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """See `Judge`."""
        return _attributes(self.classifier, self.classifier.colourless, disturbed(estimate, generator), target)


def judges(
    recogniser: Path | None,
    classifier: Path | None,
    vae: AutoencoderKL,
    device: torch.device | str,
    structure: float = STRUCTURE,
) -> list[Judge]:
    """Those of which there is a folder: of a recogniser and of a classifier, each of latents or of pictures."""
    found: list[Judge] = []
    picture_recogniser = picture_classifier = None
    if recogniser is not None:
        net = Recogniser.from_pretrained(recogniser, local_files_only=True).eval().requires_grad_(False).to(device)
        if net.config["channels"] == RGB:
            picture_recogniser = net
        else:
            found.append(LatentIdentityJudge(net))
    if classifier is not None:
        if AttributeNet.load_config(classifier).get("channels", RGB) == RGB:
            picture_classifier = AttributeNet.from_pretrained(classifier, local_files_only=True)
            picture_classifier.eval().requires_grad_(False).to(device)
        else:
            found.append(AttributeJudge(classifier, device))
    if picture_recogniser is not None or picture_classifier is not None:
        vae.to(device, memory_format=torch.channels_last)  # on processors its backward pass is faster
        found.append(PictureJudge(vae, picture_recogniser, picture_classifier, structure))
    return found
