"""`fednc`: the researcher's and coordinator's command.

A command imports what is heavy itself, after it has read its words: PyTorch, Flower and Ray take seconds, which
`--help` and a mistyped word, key or value need not wait for.
"""

import math
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.config import DEFAULT_CONFIG, Experiment, load, parse_overrides
from common.config.layout import leaf
from common.errors import MistakesError, UserError, WireError, print_error, unknown
from common.logs import reopen_closed_streams
from common.methods import METHODS, methods_for
from common.transliteration import transliterate_output
from server_app.checks.override_checks import check_own_runs, check_simulated
from server_app.compare.studies import PLAIN, STUDIES, Variant
from server_app.engines.choices import DEFAULT_ENGINE, TUNING_METRICS, check_engine
from server_app.engines.stopping import Stopped, exit_now, raise_on_signals
from server_app.provision import cli as provision

if TYPE_CHECKING:
    from server_app.compare.cells import Cell

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(provision.cli, name="provision")

Config = Annotated[str, typer.Argument(help="a YAML file, e.g. configs/digits_lt.yaml")]
Overrides = Annotated[list[str] | None, typer.Argument(help="any key of the experiment: rounds=200 seed=1")]


@cli.callback()
def about() -> None:
    """Federated learning of one generic and many personal image classifiers."""


@cli.command()
def run(
    config: Config = DEFAULT_CONFIG,
    overrides: Overrides = None,
    engine: Annotated[str, typer.Option(help="flower (Ray simulation) or local (in this process)")] = DEFAULT_ENGINE,
    superlink: Annotated[str, typer.Option(help="run at real sites: a connection of Flower's configuration")] = "",
) -> None:
    """Run one experiment: generic and personal models, and a report."""
    check_engine(engine)
    if "=" in config and not Path(config).exists():  # no file: the default one, and a key
        config, overrides = DEFAULT_CONFIG, [config, *(overrides or [])]
    given = parse_overrides(overrides or [])
    if superlink:
        from server_app.engines.deployed_run import run_deployed

        run_deployed(config, given, superlink, Path.cwd())
        return
    experiment = load(config, given, base=Path.cwd())
    check_simulated(experiment)
    from server_app.checks.feasibility import check_feasible
    from server_app.engines.engines import run_experiment
    from server_app.engines.resume_hint import resume_hint
    from server_app.run.journal import quiet_logging

    quiet_logging()
    check_feasible(experiment)  # fetches and checks the data once, before any worker needs it
    with resume_hint(experiment, config, overrides or [], engine if engine != DEFAULT_ENGINE else "") as named:
        run_experiment(named, engine)


@cli.command()
def new(
    data: Annotated[Path, typer.Argument(help="a folder of images, a CSV that lists them, or an .npz archive")],
    output: Annotated[Path | None, typer.Option(help="the YAML file; default: <name of the data>.yaml here")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")] = False,
    skip_bad_images: Annotated[int, typer.Option(min=0, help="images that may be left out as they cannot be read")] = 0,
    weights: Annotated[
        str | None,
        typer.Option(help="imagenet, none, a file, or run:FOLDER; default: imagenet where images are large enough"),
    ] = None,
) -> None:
    """Look at your own images and write an experiment that runs as it is, every key with its reason."""
    from server_app.new import new_experiment

    for line in new_experiment(data, output, overwrite, skip_bad_images, weights):
        typer.echo(line)


@cli.command()
def follow(
    run_id: Annotated[int, typer.Argument(help="Flower's number of the run; `flwr ls` shows it")],
    superlink: Annotated[str, typer.Option(help="a connection of Flower's configuration")] = "fednc",
) -> None:
    """Show the lines of a run at real sites until it ends; exit code 1 if it failed or was stopped."""
    from server_app.engines.deployed_run import follow_run

    follow_run(run_id, superlink)


@cli.command()
def report(folder: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Write a run's report.html again, and its charts as files for a paper: SVG, PDF, PNG and the data as CSV."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no config.json")
    from server_app.report import write_report
    from server_app.run.journal import quiet_logging

    quiet_logging()
    typer.echo(write_report(folder, charts=True))
    typer.echo(folder / "charts")


@cli.command()
def export(
    folder: Annotated[Path, typer.Argument(help="a finished run's folder")],
    head: Annotated[str, typer.Option(help="a generic head; default: the one that the method is judged by")] = "",
    output: Annotated[Path | None, typer.Option(help="default: export/ in the run's folder")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace files that are in --output")] = False,
) -> None:
    """Write the generic model for use elsewhere: safetensors, ONNX and a model card.

    Without the extra 'onnx' the ONNX file is left out. Exit code 1 if it could have been written and was not, or
    if nothing was.
    """
    from server_app.generic.export import export as export_model

    lines, trouble = export_model(folder, head, output, overwrite)
    for line in lines:
        typer.echo(line)
    if trouble:
        raise UserError(trouble)


@cli.command()
def withdraw(
    folder: Annotated[Path, typer.Argument(help="a run's folder, of a method that solves its head: fedridge, fed3r")],
    site: Annotated[str, typer.Argument(help="the site's name")],
) -> None:
    """Take a site's part out of a run, as if it had never taken part, and solve the generic model again."""
    from server_app.run.journal import quiet_logging
    from server_app.withdraw import withdraw as withdraw_site

    quiet_logging()
    withdraw_site(folder, site)


@cli.command()
def compare(
    config: Annotated[str, typer.Argument(help="a YAML file")],
    overrides: Overrides = None,
    methods: Annotated[str, typer.Option(help="names with commas; default: all that fit, or the study's")] = "",
    study: Annotated[str, typer.Option(help=f"ablations, with commas: {', '.join(STUDIES)}")] = "",
    seeds: Annotated[str, typer.Option(help="whole numbers with commas")] = "0,1,2",
    jobs: Annotated[int, typer.Option(min=1, help="runs side by side")] = 1,
    output: Annotated[Path | None, typer.Option(help="folder of the results")] = None,
    engine: Annotated[str, typer.Option(help="local (a process a run) or flower (a Ray simulation a run)")] = "local",
    minutes: Annotated[float, typer.Option(help="stop after so long; the same command goes on")] = math.inf,
) -> None:
    """Compare methods, or a study's variants, over seeds; finished runs are kept and not repeated."""
    check_engine(engine)
    given = parse_overrides(overrides or [])
    for key, option in (("method", "--methods"), ("seed", "--seeds")):
        if key in given:
            raise UserError(f"{key} = {given[key]!r}: a comparison takes {option} instead")
    check_own_runs(given, "a comparison")
    if not minutes >= 0:  # nan is neither
        raise UserError(f"minutes = {minutes}: should be 0 or more")
    studies = known_words("study", study, STUDIES) if study else []
    for name in studies:
        varied = {key for variant in STUDIES[name] for key in variant.overrides}
        for key in (key for key in given if leaf(key) in varied):
            raise UserError(f"{key} = {given[key]!r}: the study {name} varies it; leave it out")
    names = known_words("method", methods, METHODS) if methods not in ("", "all") else []
    numbers = _seeds(seeds)
    base = load(config, given, base=Path.cwd(), single=False)  # its mistakes need not wait for what is heavy
    if not names and (methods or not studies):
        names = fitting_methods(base)
    cell_of = partial(_cell, config, given)
    from server_app.compare.plan import plan_cells
    from server_app.compare.results import write_results
    from server_app.compare.runner import compare as run_comparison
    from server_app.run.journal import quiet_logging

    quiet_logging()
    cells = plan_cells(cell_of, given, numbers, names, studies)
    title = "-".join(("compare", cells[0].experiment.name, *studies))
    folder = (output or cells[0].experiment.run.output_dir / title).resolve()
    failed = run_comparison(cells, folder, jobs, engine, minutes)
    typer.echo(write_results(cells, folder, None if studies else cell_of))
    typer.echo(f"results: {folder}")
    if failed:
        raise UserError(f"{failed} of {len(cells)} runs failed; their reasons are above")


def fitting_methods(experiment: Experiment) -> list[str]:
    """Return the methods for the experiment's kind of labels, one or several an image."""
    check_simulated(experiment)
    from common.data import build_federation

    return methods_for(build_federation(experiment).dataset.multilabel)


def known_words(what: str, text: str, known: Iterable[str]) -> list[str]:
    """Split at commas; raise `UserError` that names every unknown word."""
    words, known = _words(text), [*known]
    if wrong := [word for word in words if word not in known]:
        raise MistakesError([("", str(unknown(what, word, known))) for word in wrong])
    return words


def _words(text: str) -> list[str]:
    """Split at commas; each word once, in order."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _seeds(text: str) -> list[int]:
    if not all(seed.isdecimal() for seed in _words(text)):
        raise UserError(f"seeds = '{text}': allowed: whole numbers with commas, e.g. 0,1,2")
    return [int(seed) for seed in _words(text)]


def _cell(config: str, given: dict[str, Any], method: str, seed: int, variant: Variant = PLAIN) -> "Cell":
    overrides = given | {"method": method, "seed": seed} | dict(variant.overrides)
    sources = {"method": "--methods", "seed": "--seeds"} | dict.fromkeys(variant.overrides, "--study")
    experiment = load(config, overrides, base=Path.cwd(), sources=sources, single=False)
    if "sites" in variant.overrides and experiment.sites.partition == "natural":
        raise UserError(f"{variant.label}: {config} has the sites that its data name; this study deals images anew")
    from server_app.compare.cells import Cell

    return Cell(experiment, variant.label)


@cli.command()
def tune(
    config: Annotated[str, typer.Argument(help="a YAML file")],
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="default: the YAML's")] = "",
    grid: Annotated[list[str] | None, typer.Option(help="key=value,value; repeatable; default: the method's")] = None,
    by: Annotated[str, typer.Option(help=f"{', '.join(TUNING_METRICS)}; default: what the method is judged by")] = "",
    seeds: Annotated[str, typer.Option(help="whole numbers with commas")] = "0",
    jobs: Annotated[int, typer.Option(min=1, help="runs side by side")] = 1,
    output: Annotated[Path | None, typer.Option(help="folder of the results")] = None,
) -> None:
    """Choose hyper-parameters on images held out from the training images; no test image is looked at."""
    from server_app.compare.tune import choice, read_grids, selection_metric, tuning_cells, tuning_experiment

    given = parse_overrides(overrides or [])
    numbers = _seeds(seeds)
    experiment = tuning_experiment(config, given, method, Path.cwd())
    grids = read_grids(grid or [], experiment, given)
    metric = selection_metric(by, experiment, grids)
    from server_app.compare.results import write_results
    from server_app.compare.runner import compare as run_comparison
    from server_app.run.journal import quiet_logging

    quiet_logging()
    cells = tuning_cells(experiment, grids, numbers, given)
    folder = (output or experiment.run.output_dir / f"tune-{experiment.name}-{experiment.method}").resolve()
    failed = run_comparison(cells, folder, jobs)
    typer.echo(write_results(cells, folder))
    typer.echo(f"results: {folder}\n\n{choice(cells, grids, metric, folder)}")
    if failed:
        raise UserError(f"{failed} of {len(cells)} runs failed; their reasons are above")


def main() -> None:
    """Entry point: a user's mistake is a line on standard error and exit code 1; a signal ends in order."""
    reopen_closed_streams()
    transliterate_output()
    try:
        with raise_on_signals():
            cli(standalone_mode=True)
    except (UserError, WireError) as error:
        print_error(error)
        sys.exit(1)
    except Stopped as stop:
        exit_now(stop)
