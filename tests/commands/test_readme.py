"""Every shell example of the documents that takes under a minute is run as it stands there, in a process of its own.

Only `QUICK` words are added, which make data and rounds few. An example that is not run is listed with the reason; one
that is not listed at all fails, so that a new example is looked at.
"""

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cold import QUICK, Answer, start
from documents import DOCUMENTS, name_of, shell_lines
from sites import write_site

MAKE = "installs first: `make` is how these tests are started"
SHELL = "of the shell, no command of ours"
FLOWER = "Flower's own command, an environment that `make install` sets up: test_ray_simulation.py runs it"
LONG = "takes minutes to hours: test_commands.py runs the command on little data"
DATA = "needs data that is no part of the project"
HERE = "test_commands.py runs it and looks into what it writes"


@dataclass(frozen=True)
class Run:
    """An example that is run.

    Attributes:
        last: pattern of the last line.
        added: words after its own; those of its own that begin with the same key are left out.
        prepare: makes what the example takes, in the home folder, which is where it is run.
    """

    last: str
    added: tuple[str, ...] = ()
    prepare: Callable[[Path], object] = Path.exists


def scans(home: Path) -> None:
    write_site(home)
    shutil.copytree(home / "images" / "test", home / "scans")


def own_experiment(home: Path) -> None:
    scans(home)
    assert start("fednc", "new", "scans", folder=home).code == 0


def two_models(home: Path) -> None:
    """A list of images, and the two files of a model as a coordinator and a site have them."""
    scans(home)
    run = home / "fednc-runs" / "pilot"
    shutil.copy(run / "generic.safetensors", home)
    shutil.copy(next(run.glob("sites/*/personal_model.safetensors")), home)
    images = sorted(path.relative_to(home).as_posix() for path in (home / "scans").rglob("*.png"))
    (home / "list.csv").write_text("\n".join(["image", *images]) + "\n", encoding="utf-8")


REPORT = r"^report: .*/report\.html$"
LOCAL = (*QUICK, "--engine", "local")
FEW = ("composites=90", "composites-test=60", "sites=4", "rounds=1", "local-epochs=1", "--engine", "local")

EXAMPLES: dict[str, Run | str] = {
    "make demo": MAKE,
    "make test": MAKE,
    'make demo CONFIG=configs/cifar10_lt.yaml SET="data-dir=/data/cifar rounds=200"': MAKE,
    ". .venv/bin/activate": SHELL,
    "fednc new scans": Run(r"^fednc run scans\.yaml$", prepare=scans),
    "fednc run scans.yaml": Run(REPORT, ("rounds=1", "local-epochs=1", "--engine", "local"), own_experiment),
    "fednc compare scans.yaml --methods fedavg,fedloge --seeds 0,1": Run(
        r"^results: .*compare-scans$", ("rounds=1", "local-epochs=1", "output-dir=runs"), own_experiment
    ),
    "fednc run configs/digits_lt.yaml method=fedavg rounds=100 seed=1": Run(REPORT, QUICK),  # with Ray
    "fednc run configs/digits_lt.yaml --engine local": Run(REPORT, QUICK),
    'flwr run . --stream --federation-config "num-supernodes=8 client-resources-num-cpus=1"': FLOWER,
    "flwr run . --stream --federation-config "
    '"num-supernodes=40 client-resources-num-cpus=1 client-resources-num-gpus=0.125" '
    "--run-config \"config='configs/cifar10_lt.yaml' data-dir='/data/cifar' rounds=200 method='fedavg' seed=1\"": DATA,
    "fednc compare configs/digits_lt.yaml --methods all --seeds 0,1,2 --jobs 2": LONG,
    "fednc compare configs/digits_lt.yaml --study fig4 --seeds 0,1,2 --jobs 2": LONG,
    'fednc tune configs/digits_lt.yaml --method fedprox --grid "fedprox-mu=0.001,0.01,0.1,1" --seeds 0 --jobs 2': LONG,
    "fednc compare configs/digits_lt.yaml --methods fedavg,fedprox --seeds 0,1,2": LONG,
    "fednc run configs/digits_multilabel.yaml": Run(REPORT, FEW),
    "fednc compare configs/digits_multilabel.yaml --jobs 2": LONG,
    "fednc compare configs/digits_multilabel.yaml --study fednca_ml --jobs 2": LONG,
    "fednc compare configs/digits_multilabel.yaml --study fednca_ml_grid,finetuned_ml --jobs 2": LONG,
    "fednc run configs/digits_lt.yaml run-name=pilot resume=true": Run(
        REPORT, LOCAL
    ),  # continues what `finished` began
    "fednc run configs/digits_lt.yaml run-name=pilot resume=true rounds=200": Run(
        REPORT,
        ("rounds=3", *LOCAL[1:]),  # one round more than `finished` has
    ),
    "fednc export ~/fednc-runs/pilot": HERE,
    "fednc-site predict scans/ --model ~/fednc-runs/pilot --output answers.csv": Run(
        r"^\d+ images classified: answers\.csv$", prepare=scans
    ),
    "fednc-site predict list.csv --model generic.safetensors --personal personal_model.safetensors": Run(
        r"^\d+ images classified: predictions\.csv$", prepare=two_models
    ),
    "fednc compare configs/digits_lt.yaml --study wire --methods fedavg,fedloge "
    "--output tests/benchmarks/results/digits_lt_wire": LONG,
}
IN_CONTAINERS = ("docker/README.md", "docker/site/INSTRUCTIONS.md")  # tests/integration/test_compose.py
NEEDS_DATA = re.compile(  # and hours: test_commands.py runs these commands on little data
    r"fednc (compare|tune) configs/\S+ (dataset=npz )?data-dir=DATA/"
)


def examples() -> list[str]:
    """Return the shell examples of all documents but the containers' guide, without comments."""
    found = [line for path in DOCUMENTS if name_of(path) not in IN_CONTAINERS for line in shell_lines(path)]
    lines = [re.split(r"(?:^|\s+)#\s", line)[0].strip() for line in found]
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line))


def run(example: str, what: Run, home: Path) -> Answer:
    what.prepare(home)
    keys = tuple(word.split("=")[0] + "=" for word in what.added if "=" in word)
    words = [word for word in shlex.split(example) if not word.startswith(keys or "=")]
    words = [word.replace("~", str(home), 1) if word.startswith("~") else word for word in words]
    added = [word for word in what.added if word not in words]  # an option of its own stays as it is
    return start(*words, *added, folder=home, environment={"HOME": str(home)})


def test_every_example_is_run_or_has_a_reason_not_to_be() -> None:
    found = examples()
    assert len(found) > 20
    assert [line for line in found if line not in EXAMPLES and not NEEDS_DATA.match(line)] == []
    assert [line for line in EXAMPLES if line not in found] == []


@pytest.mark.parametrize("example", [line for line, what in EXAMPLES.items() if isinstance(what, Run)])
def test_an_example_runs(example: str, home: Path) -> None:
    what = EXAMPLES[example]
    assert isinstance(what, Run)
    answer = run(example, what, home)
    assert answer.code == 0, answer.out + answer.error
    assert re.search(what.last, answer.last), answer.out
    assert "Traceback" not in answer.out + answer.error and "Warning" not in answer.error
