"""The card of an exported model, in Markdown: what it is, of which data, how good, for what, and for what not.

Its sections follow Mitchell et al., FAT* 2019, https://arxiv.org/abs/1810.03993.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.markup import escape_markdown, fenced
from common.methods import HEAD_TITLES, METHODS
from common.models.trained import TrainedModel
from server_app.report.record import GROUPS, Event, RunRecord, at, number, numbers, read_run, sites_of
from server_app.run.journal import percent
from server_app.run.metrics import generic_score

_STAGES = {"final": "after training", "realigned": "realigned", "finetuned": "fine-tuned"}


def model_card(folder: Path, model: TrainedModel, experiment: Mapping[str, Any], onnx: str) -> str:
    """Return the card of a run's generic model.

    Args:
        folder: the run's.
        model: what is exported.
        experiment: the configuration to show.
        onnx: what became of the ONNX file.
    """
    run, row = read_run(folder), METHODS[model.about.method]
    sites = _site_sizes(folder, run)
    given = {key: value for key, value in experiment.items() if value is not None}
    parts = (
        f"# {escape_markdown(experiment['name'])}: {row.title}, generic model",
        _summary(model, run, len(sites)),
        "**It is not a medical device.** Nobody has approved it for diagnosis, triage or any other clinical decision.",
        "## Use and limits",
        _limits(model, run),
        "## Input and output",
        _interface(model, onnx),
        "## Figures",
        _metrics(model, run),
        "## Classes",
        _classes(model, run),
        "## Data by site",
        _sites(run, sites),
        "## Configuration",
        fenced(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), "yaml"),
        "## Versions",
        _table(
            ["package", "version"], [[escape_markdown(str(word)) for word in pair] for pair in run.versions.items()]
        ),
        "## Citation",
        f"{row.title}: {row.paper}",
    )
    return "\n\n".join(parts) + "\n"


def _summary(model: TrainedModel, run: RunRecord, sites: int) -> str:
    about = model.about
    where = "simulated sites" if run.simulated else "sites, which kept their images and labels"
    return (
        f"A classifier of images ({model.experiment.data.dataset}) in {len(about.classes)} classes, trained with "
        f"{METHODS[about.method].title} by federated learning over {about.rounds} rounds at {sites} {where}. "
        f"It answers with the head '{HEAD_TITLES[model.head_name]}'."
    )


def _limits(model: TrainedModel, run: RunRecord) -> str:
    other = (
        "the labels that it resembles most, or none" if model.about.multilabel else "one of their names all the same"
    )
    weak = [name for c, name in enumerate(model.about.classes) if run.group_of.get(c) == "few"]
    lines = [
        "Intended for research: as a baseline, as a start for further training, and to look into federated learning.",
        f"It knows the classes below and no others; an image of something else gets {other}.",
        "Its metrics are of test images from the same sources as its training images. Other scanners, cameras, "
        "populations or preparation can make it worse; test it on your own images before you rely on it.",
        "Its probabilities are not calibrated for your mix of classes.",
        "It was trained on images at the size below: larger ones lose their detail when they are fitted to it.",
    ]
    if weak:
        lines.append(f"It saw few training images of: {', '.join(map(escape_markdown, weak))}.")
    return "\n".join(f"- {line}" for line in lines)


def _interface(model: TrainedModel, onnx: str) -> str:
    about = model.about
    kind = "each class by itself (sigmoid)" if about.multilabel else "they sum to 1 (softmax)"
    colour = "grey" if about.channels == 1 else "RGB"
    square = about.size[0] == about.size[1]
    fitted = f"short side resized ({about.interpolation}), square cut from the centre"
    rows = [
        ["image", f"{about.size[0]}×{about.size[1]} pixels (height × width), {colour}, 8 bits a channel"],
        ["fitting", fitted if square else "none: of exactly this size"],
        ["input", f"`images`, uint8 [batch, {about.channels}, {about.size[0]}, {about.size[1]}], any batch"],
        ["inside the model", f"(x / 255 − mean) / std, mean {_list(about.mean)}, std {_list(about.std)}"],
        ["output", f"`probabilities` [batch, {len(about.classes)}], {kind}; `logits` likewise"],
        ["`model.safetensors`", "`common.models.trained.load_trained`, or `fednc-site predict --model`"],
        ["`model.onnx`", escape_markdown(onnx)],
    ]
    return _table(["", ""], rows)


def _metrics(model: TrainedModel, run: RunRecord) -> str:
    multilabel = model.about.multilabel
    tests = "held-out training images" if run.on_validation else "test images"
    generic = run.generic(model.head_name) or {}
    score = generic_score(generic) if generic else None
    metrics = [percent(score), *(percent(number(generic.get(group))) for group in GROUPS)]
    words = [
        f"Generic model, {'macro AUC' if multilabel else 'balanced accuracy'} on the coordinator's {tests}; "
        "many, medium and few are groups of classes by training images:",
        _table(["all", *GROUPS], [metrics]),
    ]
    stages = [(title, event) for stage, title in _STAGES.items() if (event := run.personal(stage))]
    rows = [[title, *_spread(event)] for title, event in stages]
    if rows:
        words.append(
            f"Personal models, which are not in these files, {'macro AUC' if multilabel else 'accuracy'} on each "
            f"site's own {tests}, over sites:"
        )
        words.append(_table(["stage", "mean", "sd", "worst", "worst site"], rows))
    return "\n\n".join(words)


def _spread(event: Event) -> list[str]:
    return [
        *(percent(number(event.get(key))) for key in ("mean", "std", "worst")),
        escape_markdown(str(event.get("worst_site") or "–")),
    ]


def _classes(model: TrainedModel, run: RunRecord) -> str:
    event = run.generic(model.head_name) or {}
    multilabel = model.about.multilabel
    scores, thresholds = numbers(event.get("per_class")), model.thresholds
    rows = [
        [
            escape_markdown(name),
            f"{at(run.class_counts, c, 0.0):,.0f}" if run.class_counts else "–",
            run.group_of.get(c, "–"),
            percent(at(scores, c, None)),
            *([f"{thresholds[c]:.3g}"] if multilabel else []),
        ]
        for c, name in enumerate(model.about.classes)
    ]
    header = ["class", "training images", "group", "AUC" if multilabel else "accuracy"]
    return _table(header + ["threshold"] * multilabel, rows)


def _sites(run: RunRecord, sizes: Mapping[str, Sequence[float | None]]) -> str:
    stages = [event for stage in _STAGES if (event := run.personal(stage))]
    last = sites_of(stages[-1]) if stages else {}
    metric = str(stages[-1].get("figure", "accuracy")) if stages else "accuracy"
    rows = [
        [
            escape_markdown(name),
            *("–" if size is None else f"{size:,.0f}" for size in pair),
            percent(number(last.get(name, {}).get(metric))),
        ]
        for name, pair in sizes.items()
    ]
    words = "Images as each site reported them" + (" (simulated sites may share test images)" if run.simulated else "")
    return f"{words}:\n\n" + _table(["site", "training", "test", "its personal model"], rows)


def _site_sizes(folder: Path, run: RunRecord) -> dict[str, tuple[float | None, float | None]]:
    """Return training and test images by site, as the sites declared when the run began."""
    try:
        declared = json.loads((folder / "sites.json").read_text(encoding="utf-8"))
        return {
            str(name): (number(site.get("num_train")), number(site.get("num_test"))) for name, site in declared.items()
        }
    except (OSError, ValueError, AttributeError):
        return dict.fromkeys(run.site_names, (None, None))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
