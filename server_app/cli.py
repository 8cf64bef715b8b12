"""`fednc`: the researcher's and coordinator's command."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from common import wire
from common.config import DEFAULT_CONFIG, Experiment, check_key, load, parse_value
from common.data import build_federation
from common.errors import UserError, unknown
from common.methods import METHODS
from server_app import provision
from server_app.compare import Cell
from server_app.compare import compare as run_comparison
from server_app.compare_results import write_results
from server_app.continuation import continued_by
from server_app.deployed_run import follow_run, run_deployed
from server_app.engines import check_engine, run_experiment
from server_app.export import export as export_model
from server_app.journal import quiet_logging
from server_app.report import write_report
from server_app.stopping import Stopped, last_lines, leave, stoppable
from server_app.studies import STUDIES, Variant, methods_of
from server_app.tune import FIGURES, choice, figure_to_judge, read_grids, tuning_cells, tuning_experiment

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(provision.cli, name="provision")

Config = Annotated[str, typer.Argument(help="a YAML file, e.g. configs/digits_lt.yaml")]
Overrides = Annotated[list[str] | None, typer.Argument(help="any key of the experiment: rounds=200 seed=1")]

DEFAULT_ENGINE = "flower"
_PLAIN = Variant("", {})  # a method as the YAML has it


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
    given = parse_overrides(overrides or [])
    if superlink:
        run_deployed(config, given, superlink, Path.cwd())
        return
    experiment = load(config, given, base=Path.cwd())
    build_federation(experiment)  # fetches and checks the data once, before any worker needs it
    with continued_by(experiment, config, overrides or [], engine if engine != DEFAULT_ENGINE else "") as named:
        run_experiment(named, engine)


@cli.command()
def follow(
    run_id: Annotated[int, typer.Argument(help="Flower's number of the run; `flwr ls` shows it")],
    superlink: Annotated[str, typer.Option(help="a connection of Flower's configuration")] = "fednc",
) -> None:
    """Show the lines of a run at real sites until it ends; exit code 1 if it failed or was stopped."""
    follow_run(run_id, superlink)


@cli.command()
def report(folder: Annotated[Path, typer.Argument(help="a run's folder")]) -> None:
    """Write a run's report.html again."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no config.json")
    typer.echo(write_report(folder))


@cli.command()
def export(
    folder: Annotated[Path, typer.Argument(help="a finished run's folder")],
    head: Annotated[str, typer.Option(help="a generic head; default: the one that the method is judged by")] = "",
    output: Annotated[Path | None, typer.Option(help="default: export/ in the run's folder")] = None,
) -> None:
    """Write the generic model for use elsewhere: safetensors, ONNX and a model card."""
    for line in export_model(folder, head, output):
        typer.echo(line)


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
    quiet_logging()
    check_engine(engine)
    given = parse_overrides(overrides or [])
    for key, option in (("method", "--methods"), ("seed", "--seeds")):
        if key in given:
            raise UserError(f"{key} = {given[key]!r}: a comparison takes {option} instead")
    studies = _words(study) if study else []
    for name in studies:
        if name not in STUDIES:
            raise unknown("study", name, STUDIES)
        for key in given.keys() & {key for variant in STUDIES[name] for key in variant.overrides}:
            raise UserError(f"{key} = {given[key]!r}: the study {name} varies it; leave it out")
    names = _words(methods) if methods not in ("", "all") else []
    if not names and (methods or not studies):
        names = fitting_methods(load(config, given, base=Path.cwd()))
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    numbers = _seeds(seeds)
    wanted = [(name, variant) for study in studies for name in names or methods_of(study) for variant in STUDIES[study]]
    cell_of = partial(_cell, config, given)
    cells = [
        cell_of(name, seed, variant)
        for seed in numbers
        for name, variant in (wanted if studies else [(name, _PLAIN) for name in names])
    ]
    cells = list({cell.stem: cell for cell in cells}.values())  # studies may share variants
    title = "-".join(("compare", cells[0].experiment.name, *studies))
    folder = (output or cells[0].experiment.output_dir / title).resolve()
    failed = run_comparison(cells, folder, jobs, engine, minutes)
    typer.echo(write_results(cells, folder, None if studies else cell_of))
    typer.echo(f"results: {folder}")
    if failed:
        raise UserError(f"{failed} of {len(cells)} runs failed; their reasons are above")


def fitting_methods(experiment: Experiment) -> list[str]:
    """Return the methods for the experiment's kind of labels, one or several an image."""
    multilabel = build_federation(experiment).dataset.multilabel
    return [name for name, row in METHODS.items() if row.labels in ("any", "many" if multilabel else "one")]


def _words(text: str) -> list[str]:
    """Split at commas; each word once, in order."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _seeds(text: str) -> list[int]:
    if not all(seed.isdecimal() for seed in _words(text)):
        raise UserError(f"seeds = '{text}': allowed: whole numbers with commas, e.g. 0,1,2")
    return [int(seed) for seed in _words(text)]


def _cell(config: str, given: dict[str, Any], method: str, seed: int, variant: Variant = _PLAIN) -> Cell:
    overrides = given | {"method": method, "seed": seed} | dict(variant.overrides)
    experiment = load(config, overrides, base=Path.cwd())
    if "sites" in variant.overrides and experiment.partition == "natural":
        raise UserError(f"{variant.label}: {config} has the sites that its data name; this study deals images anew")
    return Cell(experiment, variant.label)


@cli.command()
def tune(
    config: Annotated[str, typer.Argument(help="a YAML file")],
    overrides: Overrides = None,
    method: Annotated[str, typer.Option(help="default: the YAML's")] = "",
    grid: Annotated[list[str] | None, typer.Option(help="key=value,value; repeatable; default: the method's")] = None,
    by: Annotated[str, typer.Option(help=f"{', '.join(FIGURES)}; default: what the method is judged by")] = "",
    seeds: Annotated[str, typer.Option(help="whole numbers with commas")] = "0",
    jobs: Annotated[int, typer.Option(min=1, help="runs side by side")] = 1,
    output: Annotated[Path | None, typer.Option(help="folder of the results")] = None,
) -> None:
    """Choose hyper-parameters on images held out from the training images; no test image is looked at."""
    quiet_logging()
    given = parse_overrides(overrides or [])
    numbers = _seeds(seeds)
    experiment = tuning_experiment(config, given, method, Path.cwd())
    grids = read_grids(grid or [], experiment, given)
    figure = figure_to_judge(by, experiment, grids)
    cells = tuning_cells(experiment, grids, numbers)
    folder = (output or experiment.output_dir / f"tune-{experiment.name}-{experiment.method}").resolve()
    failed = run_comparison(cells, folder, jobs)
    typer.echo(write_results(cells, folder))
    typer.echo(f"results: {folder}\n\n{choice(cells, grids, figure, folder)}")
    if failed:
        raise UserError(f"{failed} of {len(cells)} runs failed; their reasons are above")


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """Turn ['rounds=200', 'method=fedavg'] into values, read as YAML does.

    Raises:
        UserError: a word without '=', or an unknown key.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"'{word}' is not of the form key=value")
        check_key(key, text, source="command line")
        values[key] = parse_value(text) if text else ""
    return values


def main() -> None:
    """Entry point: a user's mistake is a line on standard error and exit code 1; a signal ends in order."""
    try:
        with stoppable():
            cli(standalone_mode=True)
    except (UserError, wire.WireError) as error:
        sys.stderr.write(f"error: {last_lines(error)}")
        sys.exit(1)
    except Stopped as stop:
        leave(stop)
