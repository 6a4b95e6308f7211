"""`facesyn benchmark`: how fast which runtime is here."""

from typing import Annotated, Any

import typer

from facesyn.cli.options import Json


def benchmark(
    model: Annotated[str, typer.Option("--model", help="A model bundle.")] = "mini",
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=50, help="Turns of every runtime.")] = 5,
    compiled: Annotated[bool, typer.Option("--compiled", help="torch.compile too; warms up for minutes.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX with int8 products too; exports for a minute.")] = False,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Peak memory, each in a new process.")] = True,
    build: Annotated[bool, typer.Option("--build/--no-build", help="The overhead of a small build.")] = True,
    json: Json = False,
) -> None:
    """Compare the runtimes on this machine, by pictures per second.

    "diffusers, plain" is diffusers' own pipeline on the same weights at the same steps, "networks alone" what facesyn
    would make without the rest of its work. The ratios are facesyn's default, 8 pictures at once, to plain diffusers,
    one picture a call; then at equal batches; cpu_ratios are the same by
    processor time, which tells more on a busy machine. overhead_share is what a gated build spends outside of networks.

    Example: facesyn benchmark --json
    """
    import tempfile
    from pathlib import Path

    from facesyn.benchmark import measure, overhead, peak_memory, runtimes
    from facesyn.export.models import export_model
    from facesyn.out import out

    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "int8" if int8 else None
        errors: dict[str, Any] = {}
        if exported is not None:
            found = export_model(model, exported, "int8", None, lambda name: out.note(f"exporting {name}"))
            errors = {name: max(each.values()) for name, each in found["networks"].items()}
        compared = runtimes(model, compiled, exported)
        figures = measure(compared, rounds, out.note)
        if build:
            out.note("building")
            figures["overhead_share"] = overhead()
        if memory:
            figures["peak_bytes"] = {runtime.name: peak_memory(runtime) for runtime in compared}
        if errors:
            figures["int8_errors"] = errors
    if json:
        out.json(figures)
        return
    for stage in ("generate", "transfer"):
        rows = [(name, found.get("batch 1", ""), found["batch 8"]) for name, found in figures[stage].items()]
        out.table((f"{stage}, pictures a second", "batch 1", "batch 8"), rows)
    rest = [(name, f"{value:.2f}") for name, value in figures["ratios"].items()]
    rest += [("overhead_share", f"{figures['overhead_share']:.1%}")] if build else []
    rest += [(f"peak memory, {name} (MB)", f"{used / 1e6:.0f}") for name, used in figures.get("peak_bytes", {}).items()]
    rest += [(f"int8 error, {name}", f"{error:.1e}") for name, error in errors.items()]
    out.table(("figure", "value"), rest)
