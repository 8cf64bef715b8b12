"""The experiment: one frozen, validated object, the same on the coordinator and at every site.

Sources, later ones win: the defaults below, a YAML file in `configs/`, flat `key=value` overrides
(`flwr run . --run-config "rounds=200 seed=1"` or `fednc run … rounds=200 seed=1`).
Keys are written with hyphens. An unknown key or an impossible value is a one-line `UserError`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from common.errors import UserError, nearest
from common.methods import METHODS

APP_ROOT = Path(__file__).resolve().parent.parent  # holds configs/ beside the three packages
DEFAULT_CONFIG = "configs/digits_lt.yaml"

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


def _default_dir(variable: str, below_home: str) -> Path:
    path = _expand(os.environ.get(variable) or Path.home() / below_home, variable)
    if not path.is_absolute():
        raise UserError(f"{variable} = {str(path)!r}: a Flower run does not know your folder; give an absolute path")
    return path


def _expand(value: str | Path, what: str) -> Path:
    """Replace a leading ~; raise `UserError` where there is no such home, or the text cannot be a path."""
    try:
        if "\0" in str(value):
            raise RuntimeError("it contains a zero byte")
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"{what} = {str(value)!r}: not a path: {error}") from None


class Experiment(BaseModel):
    """Everything that decides a run. Every default is the paper's, or says why it is not."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
        allow_inf_nan=False,
    )

    name: str = Field("experiment", pattern=r"^\w[\w.-]{0,63}$", description="shown in reports and folder names")

    # --- data ---------------------------------------------------------------------------------------
    dataset: Literal[
        "digits", "fashion-mnist", "cifar10", "cifar100", "image-folder", "npz", "imagenet-lt", "inaturalist"
    ] = Field("digits", description="which images; see common/data")
    data_dir: Path | None = Field(None, description="folder (or .npz file) of the images; default FEDNC_DATA")
    image_size: Positive | None = Field(None, description="resize to this many pixels a side; default: as stored")
    site_key: str | None = Field(None, description="npz: the array naming each image's site, e.g. 'center'")
    group_key: str | None = Field(None, description="npz: the array naming each image's patient or lesion")
    head_class_size: Positive | None = Field(None, description="images of the largest class; default: all")
    imbalance_factor: float = Field(1.0, ge=1, description="largest over smallest class; 1 = as the data is")
    partition: Literal["dirichlet", "iid", "natural"] = Field(
        "dirichlet", description="natural: the sites that the data set itself names"
    )
    sites: Positive = Field(40, description="number of sites K (paper: 40)")
    dirichlet: float = Field(0.5, gt=0, description="concentration α of the partition; small = skewed (paper: .5, 1)")
    min_site_size: int = Field(1, ge=0, description="redraw the partition until every site has this many images")
    local_test: Literal["keep-classes", "paper"] = Field(
        "keep-classes",
        description="paper: int(n_kc/N·n_test), which drops rare classes; keep-classes: never to 0",
    )
    evaluate_on: Literal["test", "validation"] = Field(
        "test", description="validation: images held out from the training images take the test images' place"
    )
    validation_share: float = Field(0.2, gt=0, lt=1, description="of each class's training images, to hold out")

    # --- model --------------------------------------------------------------------------------------
    backbone: Literal["cnn", "resnet8", "resnet18", "resnet20", "resnet34", "resnet50"] = Field(
        "cnn",
        description="cnn: three layers for tiny images; CIFAR ResNets have a 3×3 stem; resnet50: torchvision's",
    )
    width: Positive | None = Field(None, description="channels of the first stage; default: the backbone's own")
    head_bias: bool = Field(False, description="Eqs. 6–7 realign weight vectors; a bias would keep the tail's prior")

    # --- method -------------------------------------------------------------------------------------
    method: str = Field("fedloge", description="a row of common/methods.py")
    frame: Literal["sparse_etf", "etf", "xavier", "gaussian", "uniform", "orthogonal", "kaiming"] = Field(
        "sparse_etf", description="fixed classifier: SSE-C, Eq. 2, or a sparsified random matrix (Table 9)"
    )
    frame_solver: Literal["projection", "mma"] = Field(
        "projection", description="how sparse_etf is found; mma: the paper's Eqs. 3–5 by gradient"
    )
    sparsity: float = Field(0.6, ge=0, lt=1, description="share of zeros in the frame (paper's β: .6)")
    frame_norm: float = Field(1.0, gt=0, description="norm of each class vector (paper's γ; its code: .1)")
    frame_loss: Literal["cross-entropy", "dot-regression"] = Field(
        "cross-entropy", description="FedLoGe's loss of the backbone under the frame (Table 8)"
    )
    frame_projection: bool = Field(False, description="FedLoGe: a shared linear layer before the frame (Table 8)")
    mma_optimizer: Literal["adam", "sgd"] = Field("adam", description="optimiser of the mma solver")
    mma_learning_rate: float = Field(1e-4, gt=0, description="as in the paper's code")
    mma_steps: Positive = Field(10_000, description="as in the paper's code")

    fedprox_mu: float = Field(0.01, ge=0, description="FedProx's μ (paper: .001 to 1, tuned)")
    ditto_lambda: float = Field(1.0, ge=0, description="Ditto's λ (paper: .1 to 2, tuned)")
    fedrep_head_epochs: Positive | None = Field(None, description="head epochs; default: what remains of local-epochs")
    fedrep_body_epochs: Positive = Field(1, description="FedRep's epochs of the backbone, after the head's")
    logit_adjustment: float = Field(1.0, ge=0, description="τ of fedavg_la*; 1 = balanced softmax")
    ratio_alpha: float = Field(1.0, ge=0, description="Ratio Loss: α of the class weight α + βR (paper: 1)")
    ratio_beta: float = Field(0.1, ge=0, description="Ratio Loss: β of the class weight α + βR (paper: .1)")
    ratio_images: Positive = Field(32, description="Ratio Loss: auxiliary images a class (its code: 32)")
    creff_features: Positive = Field(100, description="CReFF: federated features a class (paper: 100)")
    creff_match_steps: Positive = Field(100, description="CReFF: steps of gradient matching a round (its code: 100)")
    creff_match_rate: float = Field(0.1, gt=0, description="CReFF: learning rate of the features (paper: .1)")
    creff_retrain_epochs: Positive = Field(300, description="CReFF: epochs of the re-trained head (its code: 300)")
    creff_retrain_rate: float = Field(0.01, gt=0, description="CReFF: its learning rate (paper: .01)")

    # --- training -----------------------------------------------------------------------------------
    rounds: Positive = Field(500, description="communication rounds (paper: 500)")
    participation: Rate = Field(1.0, description="share of sites asked each round (paper: 1, or .3)")
    local_epochs: Positive = Field(5, description="epochs E at a site each round (paper: 5)")
    batch_size: int = Field(32, ge=2, description="images a step (paper's code: 8, slow on every device)")
    learning_rate: float = Field(0.03, gt=0, description="SGD, all parameter groups (paper's code: .03)")
    momentum: float = Field(0.5, ge=0, lt=1, description="SGD (paper's code: .5)")
    weight_decay: float = Field(0.0, ge=0, description="SGD (paper's code: 0)")
    augment: Literal["none", "flip", "crop-flip"] = Field("none", description="crop: 4 pixels of padding (CIFAR)")

    # --- realignment and personal models ----------------------------------------------------------------
    realign: Literal["paper", "sum", "product", "none"] = Field(
        "paper", description="LA-FR: Eq. 7; plus φ_k (the public code's prediction); ψ_c·‖φ_kc‖; not at all"
    )
    realign_bias: Literal["keep", "scale", "drop"] = Field("keep", description="bias of realigned heads, if any")
    finetune_epochs: int = Field(0, ge=0, description="epochs at the end: the personal head; FedBABU, FedETF: more")
    finetune_learning_rate: float | None = Field(None, gt=0, description="default: learning-rate")
    mask_classes: Literal["none", "train"] = Field(
        "none",
        description="train: a personal model never predicts classes absent from the site's training data",
    )

    # --- the run ------------------------------------------------------------------------------------
    seed: int = Field(0, ge=0, description="every random stream derives from it")
    evaluate_every: Positive = Field(5, description="rounds between evaluations; the last round always is")
    checkpoint_every: Positive = Field(50, description="rounds between checkpoints")
    round_timeout: float = Field(3600, gt=0, description="seconds the coordinator waits for a round's replies")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, else mps, else cpu")
    threads: int = Field(
        1,
        ge=0,
        description="CPU threads a site; 0 = torch's choice. Equal threads give equal sums in every engine",
    )
    output_dir: Path = Field(
        default_factory=lambda: _default_dir("FEDNC_RUNS", "fednc-runs"),
        description="parent of the run's folder",
    )
    run_name: str | None = Field(None, pattern=r"^\w[\w.-]{0,119}$", description="default: name, method, seed, time")

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_yes_or_no(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse YAML's yes/no/on/off/true/false as 1 or 0."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("should be a number or a word, not yes or no")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method not in METHODS:
            near = nearest(self.method, METHODS)
            raise ValueError(f"method = {self.method!r}: {_did_you_mean(near)}allowed: {', '.join(sorted(METHODS))}")
        if self.partition == "natural" and not (self.site_key or self.dataset == "inaturalist"):
            raise ValueError("partition = 'natural' needs site-key, the array that names each image's site")
        for key, value in (("site-key", self.site_key), ("group-key", self.group_key)):
            if value and self.dataset != "npz":
                raise ValueError(f"{key} = {value!r}: only dataset 'npz' has such an array, not '{self.dataset}'")
        if self.backbone == "resnet50" and self.width not in (None, 64):
            raise ValueError(f"width = {self.width}: resnet50 is torchvision's, whose width is 64; leave width out")
        return self

    @property
    def data_root(self) -> Path:
        """Where the images are: `data-dir`, else FEDNC_DATA, else a cache below the home folder."""
        return self.data_dir or _default_dir("FEDNC_DATA", ".cache/fednc/data")

    def dump(self) -> dict[str, Any]:
        """Return the resolved configuration as plain JSON values under its hyphenated keys."""
        return self.model_dump(mode="json", by_alias=True)


KEYS: tuple[str, ...] = tuple(name.replace("_", "-") for name in Experiment.model_fields)
_PATH_KEYS = ("data-dir", "output-dir")


def load(
    config: str | Path = DEFAULT_CONFIG, overrides: Mapping[str, Any] | None = None, base: Path | None = None
) -> Experiment:
    """Read a YAML file, apply overrides and return the validated experiment with absolute paths.

    Args:
        config: path of the YAML; a relative one is looked up below `base`, then beside the packages.
        overrides: flat keys; an empty string means "not given" (Flower's run-config needs a value).
        base: the folder that relative paths start from, normally the user's; None where nobody knows
            it (inside a Flower run): a relative path in an override is then an error.

    Raises:
        UserError: unknown key, impossible value, missing or malformed file.
    """
    path = find_config(config, base)
    stem = re.sub(r"[^\w.-]", "-", path.stem).lstrip(".-")[:64]
    values: dict[str, Any] = {"name": stem or "experiment", **_read(path)}
    _make_absolute(values, path.parent)
    given = {k: v for k, v in (overrides or {}).items() if v != ""}
    _make_absolute(given, base)
    values.update(given)
    return build(values, source=str(config))


def build(values: Mapping[str, Any], source: str = "the experiment") -> Experiment:
    """Validate a flat mapping; raise `UserError` naming key, value, what is allowed, nearest key."""
    for key, value in values.items():
        check_key(key, value, source)
    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error)}") from None


def check_key(key: str, value: Any, source: str) -> None:
    """Raise `UserError` for a key that no experiment has: names key, value and the nearest known key."""
    if key not in KEYS:
        near = nearest(str(key), KEYS)
        hint = _did_you_mean(near).rstrip() or f"known keys: {', '.join(KEYS)}"
        raise UserError(f"{source}: unknown key {str(key)!r} (value {value!r}): {hint}")


def find_config(config: str | Path, base: Path | None) -> Path:
    """Return the YAML's absolute path; raise `UserError` that lists the shipped ones if there is none."""
    given = _expand(config, "config")
    roots = ([base] if base else []) + [APP_ROOT, APP_ROOT / "common"]
    tried = [given] if given.is_absolute() else [root / given for root in roots]
    for path in tried:
        if path.is_file():
            return path.resolve()
    shipped = sorted(f"configs/{p.name}" for root in roots for p in (root / "configs").glob("*.yaml"))
    near = _did_you_mean(nearest(str(config), shipped))
    raise UserError(f"no configuration file {str(config)!r}: {near}shipped: {', '.join(dict.fromkeys(shipped))}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, or no such date
        raise UserError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(values).__name__}")
    return {str(key): value for key, value in values.items() if value != ""}


def _make_absolute(values: dict[str, Any], base: Path | None) -> None:
    for key in _PATH_KEYS:
        if not isinstance(value := values.get(key), str | Path):
            continue
        path = _expand(value, key)
        if not path.is_absolute():
            if base is None:
                raise UserError(
                    f"{key} = {str(value)!r}: a Flower run does not know your folder; give an absolute path"
                )
            path = base / path
        values[key] = path.resolve()


def _did_you_mean(near: str) -> str:
    return f"did you mean '{near}'? " if near else ""


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    key = str(first["loc"][0]).replace("_", "-")
    allowed = message[:1].lower() + message[1:]
    allowed = allowed.replace("input should", "should")
    allowed = allowed.replace("input is not a valid path for <class 'pathlib.Path'>", "should be a path")
    return f"{key} = {first['input']!r}: {allowed}"
