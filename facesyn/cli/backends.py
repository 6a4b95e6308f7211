"""`facesyn backends`: what is registered, and what of it runs here."""

import typer

from facesyn.cli.options import Json

app = typer.Typer(help="List and check the backends that are installed.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_backends(json: Json = False) -> None:
    """List the registered backends without importing any.

    Example: facesyn backends list --json
    """
    from dataclasses import asdict

    from facesyn.out import out
    from facesyn.registry import entries

    found = entries()
    if json:
        out.json([asdict(entry) for entry in found])
    else:
        rows = [(entry.role, entry.name, f"{entry.package} {entry.version}", entry.target) for entry in found]
        out.table(("role", "name", "package", "target"), rows)


@app.command()
def check(json: Json = False) -> None:
    """Load each backend and say why one cannot run here. Fails where a role is left with none.

    Example: facesyn backends check
    """
    from dataclasses import asdict

    from facesyn.out import out
    from facesyn.registry import entries, why_unavailable

    reasons = {entry: why_unavailable(entry) for entry in entries()}
    if json:
        out.json([{**asdict(entry), "reason": reason} for entry, reason in reasons.items()])
    else:
        rows = [(entry.role, entry.name, reason or "runs") for entry, reason in reasons.items()]
        out.table(("role", "name", "here"), rows)
    running = {entry.role for entry, reason in reasons.items() if reason is None}
    if {entry.role for entry in reasons} - running:
        raise typer.Exit(1)
