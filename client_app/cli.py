"""`fednc-site`: the command of a site's engineer.

A command imports what is heavy itself, after it has read its words: `--help` and a mistyped word wait for no PyTorch.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from client_app.clinic.command import predict
from common.config import load
from common.errors import UserError, print_error
from common.files import write_text
from common.logs import reopen_closed_streams
from common.transliteration import transliterate_output

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.command()(predict)


@cli.callback()
def about() -> None:
    """One site of a federation: its images stay here."""


@cli.command()
def check(
    site: Annotated[Path | None, typer.Argument(help="the site's YAML file; without it, only --superlink")] = None,
    experiment: Annotated[str, typer.Option(help="the coordinator's YAML file: classes, model, policy")] = "",
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the coordinator")] = "",
    root_certificates: Annotated[Path | None, typer.Option(help="the coordinator's ca.crt")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write everything there")] = None,
) -> None:
    """Look at a site's images, machine and connection before it joins; exit code 1 where something must be fixed."""
    if bool(superlink) != bool(root_certificates):
        raise UserError("--superlink and --root-certificates go together: an address and the CA it is checked by")
    if not site and not superlink:
        raise UserError("nothing to look at: give the site's YAML file, or --superlink and --root-certificates")
    from client_app.site.config import load_site_config

    config = load_site_config(site) if site else None
    chosen = load(experiment, base=Path.cwd()) if experiment else None
    from client_app.preflight.checks import check_site
    from client_app.preflight.table import show

    console, notes = Console(), Console(stderr=True)
    findings = check_site(
        *(config, chosen, superlink, root_certificates),
        lambda images: track(images, "reading images", console=notes, transient=True),
    )
    show(findings, console)
    if json_file:
        _write(json_file, findings.as_json())
    if findings.problems:
        raise typer.Exit(1)


@cli.command()
def withdraw(
    site: Annotated[Path, typer.Argument(help="the site's YAML file")],
    names: Annotated[list[str], typer.Argument(help="patients as the manifest calls them, or images")],
) -> None:
    """Read no image of these patients any more; the next round of a method that sends sums forgets them."""
    from collections import Counter

    from client_app.site.config import load_site_config
    from client_app.site.listing import list_images
    from client_app.site.withdrawn import add_withdrawn

    config = load_site_config(site)
    if config.data.suffix.lower() == ".npz":
        raise UserError(f"{config.data}: an archive has to be written again without them")
    images = list_images(config, None, lambda problem: None, withdrawn=True).images
    known = Counter(image.patient for image in images if image.patient) + Counter(image.name for image in images)
    for line in add_withdrawn(config, names, known):
        typer.echo(line)
    typer.echo(
        "not read from now on. A model whose head is solved (fedridge, fed3r) is without them after the next round; "
        f"one that was trained with them keeps what it learned. Decoded copies are in {config.cache}: remove that "
        f"folder. Personal models made before are in {config.state_dir}"
    )


def _write(path: Path, findings: dict[str, Any]) -> None:
    """Write the findings; of files that are there, only an earlier look's is replaced."""
    try:
        if path.exists() and not _is_earlier(path):
            raise UserError(f"--json {path}: is there already, and no earlier look's; name another file")
        write_text(path, json.dumps(findings, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _is_earlier(path: Path) -> bool:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(before, dict) and {"site", "ok", "problems", "warnings"} <= before.keys()


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 1."""
    reopen_closed_streams()
    transliterate_output()
    try:
        cli(standalone_mode=True)
    except UserError as error:
        print_error(error)
        sys.exit(1)
