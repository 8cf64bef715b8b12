"""`fednc provision`: certificates, keys and kits of a federation between machines.

Exit codes: 0 all is well; 1 it failed, and one line says why; 3 it worked, but a certificate expires within 30 days;
4 it worked, but a certificate has expired. No secret is ever shown.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import UserError
from server_app.provision import federation
from server_app.provision.certificates import CA_DAYS, now
from server_app.provision.flower import DEFAULT_SUPERLINK
from server_app.provision.listing import as_json, exit_code, tables, warnings
from server_app.provision.registry import load

cli = typer.Typer(no_args_is_help=True, help="Certificates, keys and kits of a federation between machines.")

Folder = Annotated[Path, typer.Argument(help="the federation's folder; keep it on an encrypted disk, and back it up")]
Name = Annotated[str, typer.Argument(help="lower-case letters, digits and hyphens, e.g. hospital-1")]
Hosts = Annotated[list[str] | None, typer.Option("--host", help="DNS name or IP address that sites reach; repeatable")]
Days = Annotated[int, typer.Option(min=1, max=CA_DAYS, help="validity of the server's certificate")]
SuperLink = Annotated[str, typer.Option(help="HOST:PORT of the Control API, or a connection of Flower's configuration")]


@cli.command()
def init(
    folder: Folder,
    host: Annotated[
        list[str], typer.Option(help="DNS name or IP address of the coordinator; repeatable, sites use the first")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="port that sites connect to")] = 9092,
    days: Days = 825,
) -> None:
    """Make a federation: authority, server certificate, and the coordinator's folder."""
    federation.make(folder, host, port, days, now())
    typer.echo(f"made {folder}; the coordinator starts in {folder / 'coordinator'}")
    _finish(folder)


@cli.command()
def site(folder: Folder, name: Name, superlink: SuperLink = "") -> None:
    """Make the kit of a site; with --superlink, register its key too."""
    key = federation.add_site(folder, name, now())
    typer.echo(f"made {folder / 'sites' / name}; fingerprint {key.fingerprint}")
    typer.echo("hand the folder over by a safe way, and delete its secrets/ here")
    _finish(folder, superlink)


@cli.command()
def register(folder: Folder, superlink: SuperLink = DEFAULT_SUPERLINK) -> None:
    """Tell Flower of all keys that are new, and of all that are revoked."""
    load(folder)
    _finish(folder, superlink)


@cli.command()
def revoke(folder: Folder, name: Name, superlink: SuperLink = "") -> None:
    """Take a site's key away. A registered one is removed from the SuperLink that it is registered with."""
    key = federation.revoke(folder, name, now())
    typer.echo(f"revoked {name} {key.fingerprint}")
    _finish(folder, superlink or (key.superlink if key.to_unregister else ""))


@cli.command()
def renew(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="a site; default: the server's certificate")] = "",
    host: Hosts = None,
    days: Days = 825,
    superlink: SuperLink = "",
) -> None:
    """Make a new server certificate, or a new key of a site."""
    if name and host:
        raise UserError(
            f"--host belongs to the server's certificate, not to the site {name!r}: leave out one of the two"
        )
    if name:
        key = federation.renew_site(folder, name, now())
        typer.echo(f"new key of {name}; fingerprint {key.fingerprint}; hand over {folder / 'sites' / name / 'secrets'}")
    else:
        federation.renew_server(folder, host or [], days, now())
        typer.echo("new server certificate; restart the coordinator: docker-compose up -d --force-recreate")
    _finish(folder, superlink)


@cli.command("list")
def list_(
    folder: Folder, json: Annotated[bool, typer.Option("--json", help="for programs, instead of tables")] = False
) -> None:
    """Show certificates and sites, and what expires."""
    registry = load(folder)
    if json:
        typer.echo(as_json(folder, registry))
    else:
        console = Console()
        for table in tables(folder, registry):
            console.print(table)
    _finish(folder)


def _finish(folder: Path, superlink: str = "") -> None:
    """Tell Flower where a SuperLink is given, warn of what expires, and end with the exit code."""
    if superlink:
        try:
            federation.synchronise(folder, superlink, now(), typer.echo)
        except UserError as error:
            later = f"`fednc provision register {folder}` does the rest when the SuperLink runs"
            raise UserError(f"{error}; {later}") from None
    for line in warnings(folder, now()):
        typer.echo(f"warning: {line}", err=True)
    raise typer.Exit(exit_code(folder, now()))
