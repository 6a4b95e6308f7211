"""Losses from networks that look at latents or their pictures: what they see in an estimate, and what they should.

Know no diffusion.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from facesyn.atd import sampling
from facesyn.errors import ModelError
from facesyn.evaluation.measures import ssim_map
from facesyn.identity.backbones import AnyRecogniser, load_recogniser
from facesyn.identity.networks import AttributeNet, Recogniser, recognition_crop, summed_embeddings
from facesyn.training.classifier import grey
from facesyn.training.latent_classifier import LatentAttributeNet
from facesyn.training.latent_recogniser import disturbed, latent_crop
from facesyn.training.loop import Losses

LIKENESS, LEAKAGE = 0.4, 0.15
"""Weights of being near the true picture of the same person, and of not being near the reference's person."""
ATTRIBUTES = 0.2
"""Weight of the divergence about each attribute."""
SPREAD = 1.0
"""Weight of how unlike people are."""
GRAIN = 0.1
"""Largest standard deviation of noise on pictures that are judged, of a range of 2."""
RGB = 3
"""Channels of pictures; latents have others."""
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

    def __init__(self, recogniser: AnyRecogniser):
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

    They need no judge of latents, which has to be taught first. But decoding is dear, so only `DECODED` samples of a
    batch are shown: of 16, that makes a step of the embedded ATD 1.2 to 1.6 times as long on one CPU core.
    """

    DECODED = 4
    STRUCTURE = 0.8

    def __init__(self, vae: AutoencoderKL, recogniser: AnyRecogniser | None, classifier: AttributeNet | None):
        self.vae, self.recogniser, self.classifier = vae, recogniser, classifier

    def __call__(
        self, estimate: torch.Tensor, target: torch.Tensor, generator: torch.Generator, reference: torch.Tensor
    ) -> Losses:
        """See `Judge`."""
        judged = slice(self.DECODED)
        made, wanted, shown = (
            sampling.decode(self.vae, latents[judged]).float() for latents in (estimate, target, reference)
        )
        similarity = ssim_map((made + 1) / 2, (wanted + 1) / 2).mean()
        grainy = _grainy(made, generator)
        terms: dict[str, torch.Tensor] = {"structure": self.STRUCTURE * (1 - similarity)}
        if self.recogniser is not None:
            terms |= _identity(*(_seen(self.recogniser, pictures) for pictures in (grainy, wanted, shown)))
        if self.classifier is not None:
            terms |= _attributes(self.classifier, grey, grainy, wanted)
        return terms


class PeopleJudge:
    """Of faces that were sampled, not estimated: does each look as asked, and are they as unlike as people are?

    The second is asked of pairs, which are to be as alike as the true ones (Park et al. 2019, relational knowledge
    distillation): a generator that makes the typical face of everyone asked for makes few people.
    """

    def __init__(self, vae: AutoencoderKL, recogniser: AnyRecogniser | None, classifier: AttributeNet | None):
        self.vae, self.recogniser, self.classifier = vae, recogniser, classifier

    def __call__(
        self, made: torch.Tensor, wanted: torch.Tensor, shapes: torch.Tensor, generator: torch.Generator
    ) -> Losses:
        """Latents (b, c, h, w): sampled; of who was asked for; of whose edges were given."""
        made, wanted, shapes = (sampling.decode(self.vae, latents).float() for latents in (made, wanted, shapes))
        made = _grainy(made, generator)
        terms: dict[str, torch.Tensor] = {}
        if self.recogniser is not None:
            alike, truly = (each @ each.T for each in (_seen(self.recogniser, p) for p in (made, shapes)))
            terms["spread"] = SPREAD * (alike - truly).square().sum() / (len(made) * max(len(made) - 1, 1))
        if self.classifier is not None:
            terms |= _attributes(self.classifier, grey, made, wanted)
        return terms


def _grainy(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """With noise of up to `GRAIN`, which does for pictures what noise on latents does in `LatentIdentityJudge`."""
    grain = GRAIN * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return pictures + (grain * torch.randn(pictures.shape, generator=generator)).to(pictures)


def _seen(recogniser: AnyRecogniser, pictures: torch.Tensor) -> torch.Tensor:
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
        self,
        estimate: torch.Tensor,
        target: torch.Tensor,
        generator: torch.Generator,
        reference: torch.Tensor | None = None,
    ) -> Losses:
        """See `Judge`."""
        return _attributes(self.classifier, self.classifier.colourless, disturbed(estimate, generator), target)


def judges(
    recogniser: Path | None, classifier: Path | None, vae: AutoencoderKL, device: torch.device | str
) -> list[Judge]:
    """Of estimates: those of which there is a folder, of a recogniser and of a classifier, of latents or pictures."""
    found: list[Judge] = []
    of_pictures = _of_pictures(recogniser, classifier, device)
    if recogniser is not None and of_pictures[0] is None:
        found.append(LatentIdentityJudge(_frozen(load_recogniser(recogniser), device)))
    if classifier is not None and of_pictures[1] is None:
        found.append(AttributeJudge(classifier, device))
    if any(of_pictures):
        found.append(PictureJudge(_backward_fast(vae, device), *of_pictures))
    return found


def people_judge(
    recogniser: Path | None, classifier: Path | None, vae: AutoencoderKL, device: torch.device | str
) -> PeopleJudge | None:
    """Of sampled faces, with those networks in the folders that look at pictures; None without any."""
    of_pictures = _of_pictures(recogniser, classifier, device)
    return PeopleJudge(_backward_fast(vae, device), *of_pictures) if any(of_pictures) else None


def looks_at_pictures(kind: type[Recogniser] | type[AttributeNet], folder: Path) -> bool:
    """Whether the network in `folder` does; others look at latents."""
    return bool(kind.load_config(folder).get("channels", RGB) == RGB)


def _of_pictures(
    recogniser: Path | None, classifier: Path | None, device: torch.device | str
) -> tuple[AnyRecogniser | None, AttributeNet | None]:
    """Those that look at pictures, a recogniser of whatever class."""
    shown = recogniser is not None and looks_at_pictures(Recogniser, recogniser)
    asked = classifier is not None and looks_at_pictures(AttributeNet, classifier)
    return (
        _frozen(load_recogniser(recogniser), device) if recogniser is not None and shown else None,
        _frozen(AttributeNet.from_pretrained(classifier, local_files_only=True), device) if asked else None,
    )


def _frozen(network: Any, device: torch.device | str) -> Any:
    return network.eval().requires_grad_(False).to(device)


def _backward_fast(vae: AutoencoderKL, device: torch.device | str) -> AutoencoderKL:
    return vae.to(device, memory_format=torch.channels_last)  # on processors its backward pass is faster
