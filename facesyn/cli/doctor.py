"""`facesyn doctor`: what runs here, and what to install for the rest."""

from facesyn.cli.options import Json


def doctor(json: Json = False) -> None:
    """Say what runs here, and what to install for the rest.

    Example: facesyn doctor
    """
    from facesyn.diagnosis import diagnose
    from facesyn.out import out

    found = diagnose()
    if json:
        out.json(found)
        return
    out.line(f"facesyn {found['facesyn']}, Python {found['python']}, {found['platform']}")
    out.line(f"{found['free_disk_bytes'] / 1e9:.1f} GB of disk free in {found['folder']}")
    for heading in ("versions", "devices", "backends", "extras", "models"):
        out.line("")
        rows = [(name, answer) for name, answer in found[heading].items()]
        out.table((heading, ""), rows)
