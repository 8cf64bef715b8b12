"""Section `model`: backbone, heads, frame and attention."""

from typing import Annotated, Literal

from common.architectures import BACKBONES, IMAGENET, LIBRARIES, NO_WEIGHTS, RUN
from common.config.sections.conditions import (
    CACHES_TRUNK,
    HAS_SOLVED,
    HAS_SPARSE,
    HAS_TRUNK,
    HAS_WEIGHTS,
    MMA,
    SOLVED,
    SPARSE,
    STARTS_SOLVED,
    USES_ATTENTION,
    USES_QUERY_FRAME,
)
from common.keys import Acts, KeyModel, NotNegative, OneOf, PathOr, Positive, is_one_of, key


class ModelSection(KeyModel):
    """Backbone, heads, frame and attention."""

    backbone: Annotated[str, OneOf(BACKBONES, LIBRARIES)] = key(
        "cnn",
        about="cnn: three layers for tiny images; ResNets up to 34 are CIFAR's, with a 3×3 stem; torchvision: any "
        "classification model of its, such as torchvision:mobilenet_v2; resnet50 is one of them, on grey images too; "
        "timm: any model of its, such as timm:vit_tiny_patch16_224 (pip install 'fednc[timm]')",
    )
    width: Positive | None = key(None, le=4096, about="of the first stage, in channels; default: the backbone's")
    weights: Annotated[str, PathOr((NO_WEIGHTS, IMAGENET), RUN)] = key(
        NO_WEIGHTS,
        about="of the backbone at the start: none: drawn from the seed; imagenet: torchvision's or timm's, "
        "fetched by the coordinator; a file (.safetensors, .pth); run:FOLDER: an earlier run's generic model, of "
        "whatever classes",
    )
    weights_sha256: str | None = key(
        None,
        pattern=r"^[0-9a-f]{64}$",
        about="of the file of weights; default: whatever it is when the run begins, which is recorded here",
        acts=Acts(HAS_WEIGHTS),
    )
    norm: Literal["batch", "frozen", "local", "group"] | None = key(
        None,
        about="batch: statistics are averaged; frozen: they stay as they start; local: they stay at the site (SiloBN); "
        "group: GroupNorm instead; default: frozen with weights, else batch; frozen ones do not bound activations: "
        "where more than the last stage trains and a run diverges, clip-gradients=1 may help (it did MobileNetV2)",
    )
    train_from: str | None = key(
        None,
        about="the first stage of the backbone that trains; those before stand still, and cross once; head: heads "
        "alone; default: everything trains",
    )
    trunk_cache: bool = key(
        True,
        about="what stages before train-from make of an image is computed once, kept in files beside decoded images "
        "(at a site, in its cache), and read in every round; training with augment, mixup or cutmix computes it "
        "each time",
        resume="host",
        acts=Acts(HAS_TRUNK),
    )
    trunk_precision: Literal["fp32", "fp16", "bf16"] = key(
        "fp32",
        about="to which what they make of an image is rounded, kept or not; fp16 and bf16 take half the room",
        acts=Acts(HAS_TRUNK),
    )
    trunk_memory: NotNegative = key(
        2048,
        le=10**6,
        about="MiB of all of it that a process keeps in memory where files cannot be written",
        resume="host",
        stays=True,
        acts=Acts(CACHES_TRUNK),
    )
    head_bias: bool = key(False, about="Eqs. 6–7 realign weight vectors; a bias would keep the tail's prior")
    head_start: Literal["random", "ncm", "ridge"] = key(
        "random",
        about="of ψ, φ and other linear heads, not of a frame: random: drawn from the seed; ncm: class means (FedNCM); "
        "ridge: as FedRidge's generic head (classes weigh the same: τ 1, λ by cross-validation), without a bias where "
        "heads have none; both from sums of features of the backbone as it starts, which sites send before the first "
        "round if their policies allow",
    )
    head_start_range: Literal[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] = key(
        64,
        about="these features are summed in steps of its 2⁻²¹; a site with one beyond it refuses",
        acts=Acts(STARTS_SOLVED),
    )
    frame_solver: Literal["projection", "mma"] = key(
        "projection",
        about="how sparse_etf is found; mma: the paper's Eqs. 3–5 by gradient",
        acts=Acts(SOLVED, inside=HAS_SOLVED),
    )
    sparsity: float = key(
        0.6, ge=0, lt=1, about="share of zeros in the frame (paper's β: .6)", acts=Acts(SPARSE, inside=HAS_SPARSE)
    )
    mma_optimizer: Literal["adam", "sgd"] = key(
        "adam", about="optimiser of the mma solver", acts=Acts(MMA, inside=HAS_SOLVED)
    )
    mma_learning_rate: float = key(1e-4, gt=0, about="as in the paper's code", acts=Acts(MMA, inside=HAS_SOLVED))
    mma_steps: Positive = key(10_000, about="as in the paper's code", acts=Acts(MMA, inside=HAS_SOLVED))
    attention: bool | None = key(None, about="label-aware attention: one feature a class; default: as the method does")
    attention_heads: Positive = key(
        4,
        about="heads of the attention; they divide the features",
        acts=Acts(is_one_of("attention", True, None), inside=USES_ATTENTION),
    )
    query_frame: Literal["etf", "padded_etf", "sparse_etf"] = key(
        "etf",
        about="what asks: a randomly rotated ETF (FedNCA-ML), a zero-padded or a sparse one",
        acts=Acts(inside=USES_QUERY_FRAME),
    )
    channels_last: bool = key(
        False, about="channels innermost in memory: up to twice as fast on CPUs; metrics equal up to rounding"
    )
    precision: Literal["fp32", "bf16", "fp16"] = key(
        "fp32",
        about="of the backbone; heads and losses are always fp32; fp16: for GPUs, with scaled gradients; on a CPU "
        "right, but about ten times slower than fp32",
    )
