"""`fednc-site predict`: a finished model's answers for images, as a CSV."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from common.errors import UserError
from common.files import check_new


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="folders, image files, or CSVs with a column 'image', 'filename', 'file' or 'path'"),
    ],
    model: Annotated[Path, typer.Option(help="a run's folder, its generic.safetensors, or an exported model")],
    personal: Annotated[Path | None, typer.Option(help="this site's personal_model.safetensors")] = None,
    head: Annotated[str, typer.Option(help="a generic head; default: the one that the method is judged by")] = "",
    output: Annotated[Path, typer.Option(help="the CSV to write")] = Path("predictions.csv"),
    batch: Annotated[int, typer.Option(min=1, help="images at a time")] = 64,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="several labels: one for all classes; default: the tuned ones")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an --output that is there")] = False,
) -> None:
    """Classify images with the personal or the generic model; exit code 1 if an image could not be read."""
    if personal and head:
        raise UserError("--head is of the generic model, --personal is not: give one of them")
    if device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {device}: allowed: auto, cpu, cuda, mps")
    if output.resolve() in {path.resolve() for path in (*images, model, *([personal] if personal else []))}:
        raise UserError(f"--output {output}: is one of the files to read; choose another")
    check_new(output, overwrite)
    import numpy as np  # and PyTorch, which `--help` and a mistyped option need not wait for

    from client_app.clinic.predict import find_images, write_predictions
    from client_app.clinic.predict import predict as answers
    from common.models.trained import load_trained

    trained = load_trained(model, personal, head, device)
    if threshold is not None and not trained.about.multilabel:
        raise UserError("--threshold: this model gives each image one label, the likeliest; leave it out")
    thresholds = trained.thresholds if threshold is None else np.full(len(trained.about.classes), threshold)
    listed = find_images(images, partial(typer.echo, err=True))
    shown = track(
        answers(trained, listed, batch, thresholds),
        description="images",
        total=len(listed),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    unread = write_predictions(output, shown, trained, thresholds)
    typer.echo(f"{len(listed) - unread} images classified: {output}")
    if unread:
        raise UserError(f"{unread} of {len(listed)} images could not be read; column 'error' of {output} says why")
