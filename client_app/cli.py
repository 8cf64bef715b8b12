"""`fednc-site`: the command of a site."""

import sys

import typer

from client_app.predict_cli import predict
from common.errors import UserError

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.command()(predict)


@cli.callback()
def about() -> None:
    """A site's own command: nothing that it reads or writes leaves the site."""


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit code 1."""
    try:
        cli(standalone_mode=True)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
