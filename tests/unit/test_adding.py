"""One of each is added to a copy of the three packages, in the places that CONTRIBUTING.md names and no others."""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from common.config import APP_ROOT

# files that are new, each the thing itself
FILES = {
    "common/models/bands.py": '''
        """A backbone of one convolution."""

        from torch import nn

        from common.models.backbones import Backbone


        def build(channels: int, width: int | None) -> Backbone:
            dim = width or 8
            stages: dict[str, nn.Module] = {"only": nn.Conv2d(channels, dim, 3, padding=1), "relu": nn.ReLU()}
            return Backbone(stages, feature_dim=dim)
    ''',
    "common/data/sources/squares.py": '''
        """Bright squares: each class has a corner of its own."""

        import numpy as np

        from common.config import Experiment
        from common.data.images.pretrained import interpolation_of
        from common.data.images.source import array_images
        from common.data.sources.dataset import Dataset, training_moments

        DATASETS = {"squares": {"load": "load"}}


        def load(experiment: Experiment) -> Dataset:
            def images(each: int, seed: int):
                labels = np.repeat(np.arange(4), each)
                pixels = np.random.default_rng(seed).integers(0, 60, (len(labels), 8, 8), dtype=np.uint8)
                for row, label in enumerate(labels):
                    top, left = 4 * (label // 2), 4 * (label % 2)
                    pixels[row, top : top + 4, left : left + 4] += 150
                return array_images(pixels, labels, experiment.data.image_size, interpolation_of(experiment))

            train, test = images(60, 0), images(20, 1)
            return Dataset("squares", ("a", "b", "c", "d"), train, test, *training_moments(train))
    ''',
    "common/methods/softened.py": '''
        """Softened: a head that starts at nothing, and smoothed labels."""

        from common.keys import key
        from common.methods.base import Method, MethodOptions, PartContext


        class SoftenedOptions(MethodOptions):
            """Keys of Softened."""

            smoothing: float = key(0.1, ge=0, lt=1, about="Softened: smoothing of the labels")


        def _soft_head(context: PartContext):
            from torch import nn

            head = nn.Linear(context.dim, context.num_classes)
            nn.init.zeros_(head.bias)
            return head


        METHOD = Method(
            name="softened",
            title="Softened",
            paper="ours",
            family="generic",
            year=2026,
            parts=("soft_head",),
            builders={"soft_head": _soft_head},
            shared=("backbone", "soft_head"),
            generic_head="soft_head",
            head_titles={"soft_head": "soft head"},
            options=SoftenedOptions,
        )
    ''',
    "client_app/methods/softened.py": '''
        """Softened, the site's half."""

        from torch.nn.functional import cross_entropy

        from client_app.methods.base import LocalMethod
        from common.methods.softened import SoftenedOptions


        class Softened(LocalMethod):
            def losses(self, model, images, labels, local):
                amount = SoftenedOptions.of(local.experiment).smoothing
                return {"backbone": cross_entropy(model.soft_head(model(images)), labels, label_smoothing=amount)}

            def personal_head(self, model):
                return model.soft_head


        METHOD = Softened()
    ''',
    "server_app/report/greeting.py": '''
        """A section that greets."""

        from server_app.report.blocks import Block, Paragraph
        from server_app.report.record import RunRecord


        def greeting(run: RunRecord) -> list[Block]:
            return [Paragraph(f"Hello from {run.name}.")]
    ''',
}
# rows of tables, each below the table's file
ROWS = {
    "common/architectures.py": 'BACKBONES["bands"] = Architecture("common.models.bands:build", min_side=3)',
    "common/metrics.py": """
        METRICS["worst_class"] = Metric("Worst class", lambda tally: float(np.nanmin(tally.per_class())))
    """,
    "common/multilabel_table.py": """
        MULTILABEL["labels_right"] = MultilabelMetric(
            "Labels right", "labels right", "further", lambda p, y, kept: float(((p >= 0.5) == y)[kept].mean())
        )
    """,
    "common/optimisers.py": """
        OPTIMISERS["nadam"] = Optimiser("torch.optim:NAdam", _betas)
    """,
    "server_app/report/__init__.py": """
        from server_app.report.greeting import greeting

        _SECTIONS = (*_SECTIONS, Section("Greeting", greeting))
    """,
}

PROGRAM = """
import json, sys
from common.config import build
from common.errors import UserError

light = "torch" not in sys.modules
keys = {"method": "softened", "smoothing": 0.2, "dataset": "squares", "backbone": "bands", "sites": 2, "rounds": 2}
keys |= {"partition": "iid", "learning-rate": 0.05, "batch-size": 8, "finetune-epochs": 1, "evaluate-every": 1}
keys |= {"optimizer": "nadam"}
experiment = build(keys | {"device": "cpu", "output-dir": sys.argv[1], "run-name": "run"})
mistakes = []
for key in ("method", "dataset", "backbone", "optimizer"):
    try:
        build({key: str(keys[key])[:-1]})
    except UserError as error:
        mistakes.append(str(error))

import torch
from client_app.training.optimiser import optimiser_for
from common.models.trained import load_trained
from server_app.compare.cells import Cell
from server_app.compare.tables import Entry, rows_of
from server_app.engines.engines import run_local
from server_app.generic.model_card import HEAD_TITLES

folder = run_local(experiment)
several = keys | {"method": "fedavg", "dataset": "digits", "backbone": "cnn", "width": 4, "composites": 60, "rounds": 1}
several |= {"head-bias": True, "composites-test": 30, "output-dir": sys.argv[1], "run-name": "several"}
multilabel = run_local(build({key: value for key, value in several.items() if key != "smoothing"}))
summary = json.loads((folder / "summary.json").read_text())
entry = Entry((Cell(experiment),), ({"summary": summary, "curves": {}},))
trained = load_trained(folder)
print(json.dumps({
    "light": light,
    "mistakes": mistakes,
    "generic": summary["generic"],
    "multilabel": json.loads((multilabel / "summary.json").read_text()),
    "multilabel page": (multilabel / "report.html").read_text(),
    "losses": [e["loss"] for e in map(json.loads, (folder / "metrics.jsonl").open()) if e["event"] == "round"],
    "page": (folder / "report.html").read_text(),
    "rows": list(rows_of([entry])),
    "head": [trained.head_name, HEAD_TITLES[trained.head_name]],
    "optimiser": type(optimiser_for([("head", torch.nn.Parameter(torch.ones(1)))], 0.1, experiment)).__name__,
}))
"""


def _dedented(text: str) -> str:
    lines = text.strip("\n").rstrip(" ").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] if not line[:margin].strip() else line for line in lines) + "\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of a copy gives that has one of each more."""
    copy = tmp_path_factory.mktemp("adding")
    for package in ("common", "client_app", "server_app"):
        shutil.copytree(APP_ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (copy / path).exists()
        (copy / path).write_text(_dedented(text), encoding="utf-8")
    for path, text in ROWS.items():
        with (copy / path).open("a", encoding="utf-8") as file:
            file.write("\n\n" + _dedented(text))
    words = [sys.executable, "-c", PROGRAM, str(copy / "runs")]
    own = os.environ | {"PYTHONPATH": str(copy), "FEDNC_CACHE": str(copy / "cache")}
    answer = subprocess.run(words, cwd=copy, env=own, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_a_backbone_a_data_set_and_a_method_with_a_head_of_its_own_learn(found: dict[str, Any]) -> None:
    generic = found["generic"]
    assert list(generic) == ["soft_head"] and generic["soft_head"]["accuracy"] > 0.9
    first, last = found["losses"]
    assert last["backbone"] < first["backbone"]
    assert found["head"] == ["soft_head", "soft head"] and "Softened" in found["page"]


def test_a_configuration_names_them_without_importing_torch(found: dict[str, Any]) -> None:
    assert found["light"]
    for name, words in zip(("softened", "squares", "bands", "nadam"), found["mistakes"], strict=True):
        assert f"did you mean '{name}'? allowed: " in words and words.count(name) == 2


def test_a_metric_is_in_results_and_on_pages(found: dict[str, Any]) -> None:
    figures = found["generic"]["soft_head"]
    assert 0 <= figures["worst_class"] <= figures["balanced_accuracy"]
    assert re.search(r"<th[^>]*>Worst class<", found["page"])
    (row,) = found["rows"]
    assert row["Worst class"] == f"{100 * figures['worst_class']:.1f}"


def test_a_metric_of_several_labels_is_in_replies_results_and_on_pages(found: dict[str, Any]) -> None:
    summary = found["multilabel"]
    assert 0 <= summary["generic"]["aux_head"]["labels_right"] <= 1
    assert 0 <= summary["personal"]["finetuned"]["means"]["labels_right"] <= 1
    assert len(re.findall(r"<th[^>]*>Labels right<", found["multilabel page"])) >= 3  # generic, personal, by site


def test_a_section_and_an_optimiser_are_a_row(found: dict[str, Any]) -> None:
    assert "<p>Hello from run.</p>" in found["page"]
    assert found["optimiser"] == "NAdam"
