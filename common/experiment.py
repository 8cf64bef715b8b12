"""The experiment: one frozen, validated object, the same on the coordinator and at every site.

`common/config.py` reads it from a YAML file and overrides. Keys are written with hyphens.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from common.consistency import contradictions
from common.errors import did_you_mean, nearest
from common.key_types import Host, NotNegative, Onward, Positive, Rate
from common.methods import METHODS
from common.names import check_names, class_name
from common.paths import default_dir

FIELDS_ALONE = "fields alone"  # context of a validation that does not look for contradictions between keys
ClassNames = Annotated[tuple[str, ...], AfterValidator(lambda names: check_names(names, class_name, "class"))]


class Experiment(BaseModel):
    """Everything that decides a run. Every default is the paper's, or says why it is not."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
        allow_inf_nan=False,
    )

    name: Host[str] = Field("experiment", pattern=r"^\w[\w.-]{0,63}$", description="shown in reports and folder names")

    # --- data ---------------------------------------------------------------------------------------
    dataset: Literal[
        "digits",
        "fashion-mnist",
        "cifar10",
        "cifar100",
        "image-folder",
        "npz",
        "imagenet-lt",
        "inaturalist",
        "chestxray14",
        "voc2012",
        "coco2017",
        "manifest",
    ] = Field("digits", description="which images; see common/data")
    data_dir: Host[Path | None] = Field(None, description="the images' folder, .npz or .csv file; default FEDNC_DATA")
    image_size: Positive | None = Field(
        None, le=4096, description="resize to this many pixels a side (composites: their own); default: as stored"
    )
    depth: Literal["percentile", "stored"] = Field(
        "percentile",
        description="over 8 bits: 0.1 to 99.9 % percentiles of an image, or the stored range, become 0..255",
    )
    skip_bad_images: NotNegative = Field(
        0, description="this many images that cannot be read are left out, by name; one more ends the run"
    )
    image_memory: Host[Positive] = Field(
        1024, le=10**6, description="MiB of decoded images kept in memory; beyond it, in a memory-mapped file"
    )
    image_cache: Host[Path | None] = Field(
        None, description="folder of decoded images; default FEDNC_CACHE, or ~/.cache/fednc/images"
    )
    site_key: str | None = Field(None, description="npz: the array naming each image's site, e.g. 'center'")
    group_key: str | None = Field(None, description="npz: the array naming each image's patient or lesion")
    composites: Positive | None = Field(
        None, le=10**7, description="this many multi-label training images composed of single-label ones; default: none"
    )
    composites_test: Positive = Field(1000, le=10**7, description="composites made of the test images")
    composite_single_share: float = Field(0.0, ge=0, le=1, description="share of composites that show one image alone")
    composite_canvas: float = Field(
        1.5, ge=1, le=16, description="side of a composite over that of an image; 2: no overlap"
    )
    head_class_size: Positive | None = Field(None, description="images of the largest class; default: all")
    imbalance_factor: float = Field(1.0, ge=1, description="largest over smallest class; 1 = as the data is")
    partition: Literal["dirichlet", "iid", "natural", "deployed"] = Field(
        "dirichlet", description="natural: the sites that the data set itself names; deployed: real sites, own data"
    )
    classes: ClassNames | None = Field(None, description="deployed: the classes that all sites agree on, in order")
    labels: Literal["one", "many"] | None = Field(
        None, description="deployed: how many labels an image has at every site; default: as the method takes, or one"
    )
    pixel_mean: tuple[float, ...] = Field(
        (0.5,), description="deployed: subtracted from pixels in 0..1; one or 3 values"
    )
    pixel_std: tuple[float, ...] = Field((0.25,), description="deployed: pixels are divided by it; one or 3 values")
    sites: Positive = Field(40, le=10**5, description="number of sites K (paper: 40)")
    dirichlet: float = Field(0.5, gt=0, description="concentration α of the partition; small = skewed (paper: .5, 1)")
    missing_classes: float = Field(
        0.0, ge=0, lt=1, description="multi-label: share of the classes that each site misses (FedNCA-ML's γ)"
    )
    label_rule: Literal["strict", "mask"] = Field(
        "mask", description="an image with labels that a site misses: goes elsewhere (strict); those are hidden (mask)"
    )
    keep_patients: bool = Field(
        True, description="simulated partition: all images of one patient (or lesion) lie at one site"
    )
    min_site_size: NotNegative = Field(1, description="redraw the partition until every site has this many images")
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
    width: Positive | None = Field(
        None, le=4096, description="of the first stage, in channels; default: the backbone's"
    )
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

    attention: bool | None = Field(
        None, description="label-aware attention: one feature a class; default: as the method does"
    )
    attention_heads: Positive = Field(4, description="heads of the attention; they divide the features")
    query_frame: Literal["etf", "padded_etf", "sparse_etf"] = Field(
        "etf", description="what asks: a randomly rotated ETF (FedNCA-ML), a zero-padded or a sparse one"
    )
    frame_trains: bool = Field(False, description="FedNCA-ML, FedLoGe-ML: the frame as head learns too (ablation)")
    suppression_weight: float = Field(0.01, ge=0, description="FedNCA-ML: negative suppression (paper: .01)")
    clustering_weight: float = Field(1.0, ge=0, description="FedNCA-ML: compact clustering (paper: 1)")
    multilabel_loss: Literal["bce", "focal", "asymmetric", "distribution-balanced"] = Field(
        "bce", description="the loss of images with several labels"
    )
    prior_temperature: float = Field(1.0, ge=0, description="t of prior-compensated logits z + t·logit π̃")
    realign_global: Literal["none", "unit", "prior"] = Field(
        "unit",
        description="FedLoGe-ML's ψ: as it is, with rows of norm 1 (GA-FR), or with the coordinator's label prior",
    )

    fedprox_mu: float = Field(0.01, ge=0, description="FedProx's μ (paper: .001 to 1, tuned)")
    ditto_lambda: float = Field(1.0, ge=0, description="Ditto's λ (paper: .1 to 2, tuned)")
    fedrep_head_epochs: Positive | None = Field(None, description="head epochs; default: what remains of local-epochs")
    fedrep_body_epochs: Positive = Field(1, description="FedRep's epochs of the backbone, after the head's")
    logit_adjustment: float = Field(1.0, ge=0, description="τ of fedavg_la*; 1 = balanced softmax")
    etf_temperature: float | None = Field(
        None, gt=0, description="FedETF: temperature at the start; default: 10 for cnn, 1 for ResNets (its code)"
    )
    ratio_alpha: float = Field(1.0, ge=0, description="Ratio Loss: α of the class weight α + βR (paper: 1)")
    ratio_beta: float = Field(0.1, ge=0, description="Ratio Loss: β of the class weight α + βR (paper: .1)")
    ratio_images: Positive = Field(64, description="Ratio Loss: auxiliary images a class (its code: 64)")
    ratio_cap: float = Field(100.0, gt=0, description="Ratio Loss: largest R; ours (its code: 5000, a weight of 501)")
    creff_features: Positive = Field(100, le=10**5, description="CReFF: federated features a class (paper: 100)")
    creff_match_steps: Positive = Field(100, description="CReFF: steps of gradient matching a round (its code: 100)")
    creff_match_rate: float = Field(0.1, gt=0, description="CReFF: learning rate of the features (paper: .1)")
    creff_retrain_epochs: Positive = Field(300, description="CReFF: epochs of the re-trained head (its code: 300)")
    creff_retrain_rate: float = Field(0.01, gt=0, description="CReFF: its learning rate (paper: .01)")

    # --- training -----------------------------------------------------------------------------------
    rounds: Onward[Positive] = Field(500, description="communication rounds (paper: 500); more extend a run")
    participation: Onward[Rate] = Field(1.0, description="share of sites asked each round (paper: 1, or .3)")
    local_epochs: Positive = Field(5, description="epochs E at a site each round (paper: 5)")
    batch_size: int = Field(32, ge=2, le=10**9, description="images a step (paper's code: 8, slow on every device)")
    learning_rate: float = Field(0.03, gt=0, description="SGD, all parameter groups (paper's code: .03)")
    momentum: float = Field(0.5, ge=0, lt=1, description="SGD (paper's code: .5)")
    weight_decay: float = Field(0.0, ge=0, description="SGD (paper's code: 0)")
    channels_last: bool = Field(
        False, description="channels innermost in memory: up to twice as fast on CPUs; figures equal up to rounding"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the backbone; heads and losses are always fp32")
    augment: Literal["none", "flip", "crop-flip"] = Field("none", description="crop: 4 pixels of padding (CIFAR)")

    # --- realignment and personal models ----------------------------------------------------------------
    realign: Onward[Literal["paper", "sum", "product", "distribution", "none"]] = Field(
        "paper",
        description="LA-FR: Eq. 7; plus φ_k (public code's prediction); ψ_c·‖φ_kc‖; n_kc/N_k for ‖φ_kc‖; not at all",
    )
    realign_bias: Literal["keep", "scale", "drop"] = Field(
        "keep", description="bias of realigned heads, if any; FedLoGe-ML: of ψ alone"
    )
    finetune_epochs: Onward[NotNegative] = Field(0, description="at the end: personal head; FedBABU, FedETF: more")
    finetune_learning_rate: Onward[float | None] = Field(None, gt=0, description="default: learning-rate")
    mask_classes: Literal["none", "train"] = Field(
        "none", description="train: a personal model never predicts classes absent from the site's training data"
    )

    # --- the run ------------------------------------------------------------------------------------
    seed: int = Field(0, ge=0, lt=2**128, description="every random stream derives from it")
    evaluate_every: Onward[Positive] = Field(5, description="rounds between evaluations; the last round always is")
    quorum: Onward[Rate] = Field(0.5, description="share of the asked sites whose replies a round needs")
    round_retries: Host[NotNegative] = Field(2, description="rounds in a row without a quorum that are repeated")
    rest_after: Onward[NotNegative] = Field(3, description="failures in a row until a site rests; 0: it never does")
    rest_rounds: Onward[Positive] = Field(5, description="rounds in which a site that rests is not asked")
    aggregation: Literal["mean", "median", "trimmed-mean", "multi-krum"] = Field(
        "mean", description="mean: by training images (the papers'); the others bear some wrong sites"
    )
    trimmed_share: float = Field(0.2, ge=0, lt=0.5, description="trimmed-mean: cut off at both ends of each coordinate")
    wrong_sites: NotNegative = Field(1, description="multi-krum: sites that may be wrong")
    max_site_images: Positive | None = Field(None, description="training images that a site counts for at most")
    clip_norm: float | None = Field(None, gt=0, description="how far a reply may move from what was sent (2-norm)")
    max_step: Host[float | None] = Field(
        100.0, gt=0, description="the same × (norm of what was sent + 1); no training goes so far: beyond is left out"
    )
    checkpoint_every: Host[Positive] = Field(1, description="rounds between checkpoints: what a crash can lose")
    checkpoints_kept: Host[int] = Field(3, ge=2, le=10**6, description="kept; an older one replaces a damaged one")
    resume: Host[bool] = Field(False, description="continue the run of this run-name from its last checkpoint, if any")
    round_timeout: Host[float] = Field(3600, gt=0, description="seconds the coordinator waits for a round's replies")
    wire: Literal["single", "half"] = Field(
        "single", description="precision of weights on the way; half: half the bytes, computed with in single"
    )
    report_images: Host[bool] = Field(
        False, description="the report shows test images: of patients, where the data are; it says so"
    )
    device: Host[Literal["auto", "cpu", "cuda", "mps"]] = Field("auto", description="auto: cuda, else mps, else cpu")
    threads: Onward[NotNegative] = Field(
        1,
        le=1024,
        description="CPU threads a site; 0 = torch's choice. Equal threads give equal sums in every engine",
    )
    output_dir: Host[Path] = Field(
        default_factory=lambda: default_dir("FEDNC_RUNS", "fednc-runs"), description="parent of the run's folder"
    )
    run_name: Host[str | None] = Field(None, pattern=r"^\w[\w.-]{0,119}$", description="default: name, method, seed, …")

    @field_validator("*", mode="before")
    @classmethod
    def _plain_values(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse YAML's yes/no/on/off/true/false as 1 or 0, and text that no file could hold."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError("should be a number or a word, not yes or no")
        words = value if isinstance(value, list | tuple) else [value]
        if any(word.encode(errors="replace").decode() != word for word in words if isinstance(word, str)):
            raise ValueError("should be text that can be written to a file")  # \ud800 and the like
        return value

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        if name not in METHODS:
            near = nearest(name, METHODS)
            raise ValueError(f"{did_you_mean(near)}allowed: {', '.join(sorted(METHODS))}")
        return name

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        """Refuse keys that contradict each other; what depends on the data set's labels, `build_federation` checks."""
        if info.context != FIELDS_ALONE and (found := contradictions(self)):
            raise ValueError("; ".join(words for _, words in found))
        return self

    @classmethod
    def default(cls, key: str) -> Any:
        """Return the value that a key has where nobody gives one."""
        return cls.model_fields[key.replace("-", "_")].get_default(call_default_factory=True)

    @property
    def data_root(self) -> Path:
        """Where the images are: `data-dir`, else FEDNC_DATA, else a cache below the home folder."""
        return self.data_dir or default_dir("FEDNC_DATA", ".cache/fednc/data")

    @property
    def agreed_labels(self) -> Literal["one", "many"]:
        """How many labels an image has at every real site: `labels`, else what the method takes, else one."""
        taken = METHODS[self.method].labels
        return self.labels or ("one" if taken == "any" else taken)

    def dump(self) -> dict[str, Any]:
        """Return the resolved configuration as plain JSON values under its hyphenated keys."""
        return self.model_dump(mode="json", by_alias=True)


KEYS: tuple[str, ...] = tuple(name.replace("_", "-") for name in Experiment.model_fields)
