"""`facesyn train`: the models, from rendered faces. Resumable; a sitting may be ended by `--minutes`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facesyn.cli.options import Device

if TYPE_CHECKING:
    from facesyn.references.plans import Order
    from facesyn.rendered import RenderedFaces
    from facesyn.training.loop import Settings


class Trainable(StrEnum):
    """What can be trained; a judge is a second recogniser or classifier.

    UFG, ATD, decoder and what looks at latents need a trained autoencoder.
    """

    AUTOENCODER = "autoencoder"
    DECODER = "decoder"
    UFG = "ufg"
    ATD = "atd"
    LATENT_RECOGNISER = "latent-recogniser"
    LATENT_CLASSIFIER = "latent-classifier"
    RECOGNISER = "recogniser"
    JUDGE = "judge"
    LANDMARKER = "landmarker"
    CLASSIFIER = "classifier"
    JUDGE_CLASSIFIER = "judge-classifier"


_DEFAULTS = {  # steps, batch size, learning rate
    Trainable.AUTOENCODER: (20_000, 4, 1e-3),
    Trainable.DECODER: (5000, 4, 1e-3),
    Trainable.UFG: (20_000, 32, 4e-4),
    Trainable.ATD: (20_000, 32, 4e-4),
    Trainable.LATENT_RECOGNISER: (3000, 192, 6e-4),
    Trainable.LATENT_CLASSIFIER: (3000, 192, 6e-4),
    Trainable.RECOGNISER: (4000, 96, 3e-4),
    Trainable.JUDGE: (4000, 96, 7e-4),
    Trainable.LANDMARKER: (4000, 64, 1e-3),
    Trainable.CLASSIFIER: (4000, 64, 1e-3),
    Trainable.JUDGE_CLASSIFIER: (4000, 64, 1e-3),
}

_OF_LATENTS = (Trainable.LATENT_RECOGNISER, Trainable.LATENT_CLASSIFIER)
_HELPED = {  # what looks on while another is trained, and what it can help
    "teacher": _OF_LATENTS,
    "judge": (Trainable.AUTOENCODER, Trainable.DECODER, Trainable.UFG, Trainable.ATD),
    "classifier": (Trainable.UFG, Trainable.ATD),
    "sampling_steps": (Trainable.ATD,),
}
_ON_LATENTS = (Trainable.DECODER, Trainable.UFG, Trainable.ATD, *_OF_LATENTS)

BACKBONES = ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "mobilefacenet", "mini")
HEADS = ("arcface", "cosface", "adaface")
CROPS = ("facesyn", "aligned")


@dataclass(frozen=True)
class _Helpers:
    """What a training needs or is helped by: folders of trained models, a teacher's name, how few steps to learn."""

    autoencoder: Path | None
    judge: Path | None
    classifier: Path | None
    teacher: str | None
    sampling_steps: int | None

    def check(self, what: Trainable) -> None:
        from facesyn.errors import UsageError

        for name, helped in _HELPED.items():
            if getattr(self, name) is not None and what not in helped:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is for {', '.join(helped)}.", hint=f"Leave it out to train {what}.")


def _check(name: str | None, known: tuple[str, ...], what: str) -> None:
    from facesyn.errors import UsageError
    from facesyn.registry import suggest

    if name is not None and name not in known:
        raise UsageError(f"There is no {what} called {name!r}.", hint=suggest(name, known, "There"))


def train(
    what: Annotated[Trainable, typer.Argument(help="The model to train.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder: checkpoint, log, samples, model.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder of rendered faces or of WebDataset shards of such, or MakeHuman's data to render from.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", help="Folder of rendered faces to validate on, never trained on.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="For recogniser, and atd with --base: any folder of known people, not --data."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="For atd: a Stable Diffusion 1 or 2 folder to begin a full-size one from."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="With --dataset: atd (default), dcface, vec2face or cemiface.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="With --dataset: iresnet18, 34, 50, 100, mobilefacenet, mini; the protocol's."),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="With --dataset: arcface, cosface or adaface; the protocol's own.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="With --dataset: passes over all images.")] = None,
    crop: Annotated[
        str, typer.Option("--crop", help="With --dataset: facesyn for its own pictures, aligned for 112 × 112 ones.")
    ] = "facesyn",
    autoencoder: Annotated[
        Path | None,
        typer.Option("--autoencoder", help="Folder of the autoencoder whose latents are learned."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge", help="Folder of a recogniser that joins the loss: for ufg and atd of latents or of pictures."
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier",
            help="For ufg and atd: folder of a classifier that joins the loss, likewise.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", help="For latent-recogniser and latent-classifier: an encoder, a classifier to learn from."
        ),
    ] = None,
    sampling_steps: Annotated[
        int | None,
        typer.Option(
            "--sampling-steps",
            min=1,
            help="For atd: learn to sample in so few steps: only their noise levels.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--begin-from", help="Folder of a run or of a model to begin from: all tensors of the same name and shape."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all; ask for more to extend a run.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0)] = None,
    cooldown: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the steps, the last ones, over which the rate falls to zero.")
    ] = 0.2,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="End this sitting with a checkpoint after so long.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Device = "auto",
    identities: Annotated[int, typer.Option(min=2, help="People to render, without shards.")] = 2000,
    styles: Annotated[int, typer.Option(min=1, help="Styles to render, without shards.")] = 1500,
    per_identity: Annotated[int, typer.Option(min=1, help="Styles each person is rendered in, without shards.")] = 7,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of renders, initial weights, batches, noise.")] = 0,
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--fp32", help="bfloat16; by default where the device computes in it.")
    ] = None,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between validations, which also checkpoint.")
    ] = 1000,
) -> None:
    """Train a model on rendered faces; run the same command again to go on where it stopped.

    A recogniser can also be trained on any folder of known people, with --dataset, by one of the field's protocols;
    and ATD with --base, from Stable Diffusion. `torchrun --nproc-per-node 4 -m facesyn train …` shares the work.

    Example: facesyn train autoencoder --data renders --held-out val -o runs/autoencoder
    """
    import torch

    from facesyn.errors import UsageError
    from facesyn.references.plans import Order
    from facesyn.tensors import choose_device, has_bf16
    from facesyn.training.loop import Settings

    helpers = _Helpers(autoencoder, judge, classifier, teacher, sampling_steps)
    helpers.check(what)
    place = choose_device(device)
    if place.index is not None:
        raise UsageError("A training takes no number of a device.", hint="Set CUDA_VISIBLE_DEVICES, or leave it out.")
    usual = _DEFAULTS[what]
    settings = Settings(
        steps=steps or usual[0],
        batch_size=batch_size or usual[1],
        learning_rate=usual[2] if learning_rate is None else learning_rate,
        cooldown=cooldown,
        minutes=minutes,
        start=start,
        threads=threads,
        device=place.type,
        seed=seed,
        bf16=has_bf16(place) if bf16 is None else bf16,
        validate_every=validate_every,
    )
    order = Order(identities, styles, seed, min(per_identity, styles))
    torch.manual_seed(seed)
    if base is not None:
        if what is not Trainable.ATD or held_out is not None:
            raise UsageError("--base is for atd, and without --held-out: some of the people are left out for that.")
        _train_full_size(base, dataset, data, order, helpers, output, settings)
    elif dataset is not None:
        if what is not Trainable.RECOGNISER or data or held_out:
            raise UsageError("--dataset trains a recogniser, and without --data and --held-out.")
        changes = {"backbone": backbone, "head": head, "epochs": epochs}
        changes |= {"batch_size": batch_size, "learning_rate": learning_rate}
        _train_by_protocol(dataset, protocol or "atd", changes, crop, output, settings)
    elif data is None or held_out is None:
        raise UsageError(f"Training {what} needs --data and --held-out.", hint="Both are folders of rendered faces.")
    elif what in _ON_LATENTS and autoencoder is None:
        raise UsageError(f"Training {what} needs --autoencoder.", hint="Train one with `facesyn train autoencoder`.")
    else:
        _train_on_renders(what, data, order, held_out, helpers, output, settings)


def _renders(folder: Path, size: int, order: "Order", threads: int) -> "RenderedFaces":
    """Faces rendered into `folder`, or where it holds MakeHuman's data those of `order`, `size` pixels a side."""
    from facesyn.out import out
    from facesyn.records import METADATA
    from facesyn.references.assets import find_assets
    from facesyn.references.photographer import Equipment
    from facesyn.references.stream import render_faces
    from facesyn.rendered import read_renders

    if (folder / METADATA).is_file() or any(folder.glob("*.tar")):
        return read_renders(folder)
    find_assets(folder)  # a missing file is better told before the workers start
    with out.progress("render", order.identities * (1 + order.shots_per_identity)) as advance:
        return render_faces(Equipment(folder, size), order, threads, advance)


def _train_full_size(
    base: Path,
    dataset: Path | None,
    data: Path | None,
    order: "Order",
    helpers: _Helpers,
    output: Path,
    settings: "Settings",
) -> None:
    from facesyn.errors import UsageError
    from facesyn.labelled import of_rendered, read_people
    from facesyn.out import out
    from facesyn.training.stable_diffusion import picture_size, train_full_size

    if dataset is not None and data is None:
        people = read_people(dataset)
    elif data is not None and dataset is None:
        people = of_rendered(_renders(data, picture_size(base), order, settings.threads))
    else:
        raise UsageError("--base needs one of --dataset and --data.", hint="Give a folder of known people.")
    train_full_size(base, people, output, settings, out.note, helpers.judge, helpers.classifier, helpers.sampling_steps)


def _train_by_protocol(
    dataset: Path, protocol: str, changes: Mapping[str, Any], crop: str, output: Path, settings: "Settings"
) -> None:
    import torch

    from facesyn.out import out
    from facesyn.recognition.faces import read_training_faces
    from facesyn.recognition.recipes import protocol as named
    from facesyn.recognition.train import train_on_people

    torch.set_num_threads(settings.threads)
    chosen = named(protocol).adapted(**changes)
    _check(changes["backbone"], BACKBONES, "backbone")
    _check(changes["head"], HEADS, "head")
    _check(crop, CROPS, "crop")
    train_on_people(
        read_training_faces(dataset, chosen.source_repeats),
        output,
        chosen,
        seed=settings.seed,
        crop=crop,
        dtype="bf16" if settings.bf16 else "fp32",
        cpu=settings.device == "cpu",
        report=out.note,
    )


def _train_on_renders(
    what: Trainable,
    data: Path,
    order: "Order",
    held_out: Path,
    helpers: _Helpers,
    output: Path,
    settings: "Settings",
) -> None:
    from facesyn.out import out
    from facesyn.rendered import read_renders

    encoder = classifier = None
    if helpers.teacher is not None:
        from facesyn.identity.encoders import open_classifier, open_encoder

        if what is Trainable.LATENT_CLASSIFIER:
            classifier = open_classifier(helpers.teacher, {})
        else:
            encoder = open_encoder(helpers.teacher, {"device": settings.device})
    autoencoder, judge, onlooker = helpers.autoencoder, helpers.judge, helpers.classifier
    unseen = read_renders(held_out)
    faces = _renders(data, unseen.images.shape[1], order, settings.threads)
    if what is Trainable.AUTOENCODER:
        from facesyn.training.autoencoder import train_autoencoder

        train_autoencoder(faces, unseen, output, settings, out.note, judge)
    elif what is Trainable.DECODER and autoencoder is not None:
        from facesyn.training.autoencoder import train_decoder

        train_decoder(faces, unseen, autoencoder, output, settings, out.note, judge)
    elif what is Trainable.UFG and autoencoder is not None:
        from facesyn.training.ufg import train_ufg

        train_ufg(faces, unseen, autoencoder, output, settings, out.note, judge, onlooker)
    elif what is Trainable.ATD and autoencoder is not None:
        from facesyn.training.atd import train_atd

        train_atd(faces, unseen, autoencoder, output, settings, out.note, judge, onlooker, helpers.sampling_steps)
    elif what is Trainable.LATENT_RECOGNISER and autoencoder is not None:
        from facesyn.training.latent_recogniser import train_latent_recogniser

        train_latent_recogniser(faces, unseen, autoencoder, output, settings, out.note, encoder)
    elif what is Trainable.LATENT_CLASSIFIER and autoencoder is not None:
        from facesyn.training.latent_classifier import train_latent_classifier

        train_latent_classifier(faces, unseen, autoencoder, output, settings, out.note, classifier)
    elif what in (Trainable.RECOGNISER, Trainable.JUDGE):
        from facesyn.training.recogniser import new_judge, train_recogniser

        model = new_judge() if what is Trainable.JUDGE else None
        train_recogniser(faces, unseen, output, settings, out.note, model)
    elif what in (Trainable.CLASSIFIER, Trainable.JUDGE_CLASSIFIER):
        from facesyn.training.classifier import JUDGE, train_classifier

        train_classifier(
            faces, unseen, output, settings, out.note, JUDGE if what is Trainable.JUDGE_CLASSIFIER else None
        )
    else:
        from facesyn.training.landmarker import train_landmarker

        train_landmarker(faces, unseen, output, settings, out.note)
