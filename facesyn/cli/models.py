"""`facesyn models`: the weights on disk, with size and licence."""

from facesyn.cli.options import Json


def models(json: Json = False) -> None:
    """List the models on disk, with size and licence.

    These are the embedded ones, and the diffusers models in the Hugging Face cache.

    Example: facesyn models --json
    """
    from facesyn.models import installed
    from facesyn.out import out

    found = installed()
    if json:
        rows = [
            {
                "name": model.name,
                "part": model.part,
                "bytes": model.size,
                "licence": model.licence,
                "path": str(model.path),
            }
            for model in found
        ]
        out.json(rows)
    else:
        out.table(
            ("name", "part", "size", "licence"),
            [(model.name, model.part, f"{model.size / 1e6:.1f} MB", model.licence) for model in found],
        )
