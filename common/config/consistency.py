"""What the keys of an experiment say together: contradictions, each with the key that has to change.

A rule reads an experiment whose fields are valid by themselves, and yields what contradicts itself. A rule that reads
a key whose value is not known (it was no valid one) says nothing.
"""

from collections.abc import Callable, Iterator

from common.architectures import IMAGENET, LIBRARIES, NO_WEIGHTS, RUN, TIMM, TORCHVISION, architecture
from common.config.rows import ROWS
from common.config.sections.conditions import HEAD, uses_attention
from common.config.values import UnknownValueError, Values
from common.data_sets import DATA_SETS
from common.errors import short_repr
from common.keys import is_set, python_name
from common.methods import HEAD_STARTS, METHODS

Mistake = tuple[str, str]  # the key, and the words that name it
Rule = Callable[[Values], Iterator[Mistake]]


def contradictions(values: Values) -> list[Mistake]:
    """Return every contradiction between the keys of an experiment whose fields are valid by themselves."""
    found: list[Mistake] = []
    for rule in _RULES:
        try:
            found.extend(rule(values))
        except UnknownValueError:
            continue
    return found


def _natural(e: Values) -> Iterator[Mistake]:
    if e.partition == "natural" and not (e.site_key or DATA_SETS[e.dataset].names_sites):
        yield "partition", "partition = 'natural' needs site-key, the array that names each image's site"


def _site_key(e: Values) -> Iterator[Mistake]:
    if e.site_key and not DATA_SETS[e.dataset].has_arrays:
        yield "site-key", _no_such_array("site-key", e.site_key, e.dataset)


def _group_key(e: Values) -> Iterator[Mistake]:
    if e.group_key and not DATA_SETS[e.dataset].has_arrays:
        yield "group-key", _no_such_array("group-key", e.group_key, e.dataset)


def _no_such_array(key: str, value: str, dataset: str) -> str:
    having = " or ".join(f"'{name}'" for name, row in DATA_SETS.items() if row.has_arrays)
    return f"{key} = {short_repr(value)}: only dataset {having} has such an array, not '{dataset}'"


def _classes(e: Values) -> Iterator[Mistake]:
    if e.partition == "deployed" and len(e.classes or ()) < 2:
        yield "partition", "partition = 'deployed' needs classes, the names of two or more that all sites agree on"


def _pixels(e: Values) -> Iterator[Mistake]:
    if {len(e.pixel_mean), len(e.pixel_std)} - {1, 3} or min(e.pixel_std) <= 0:
        yield "pixel-std", "pixel-mean, pixel-std: one value or three, and no deviation of 0"


def _resume(e: Values) -> Iterator[Mistake]:
    if e.resume and not e.run_name:
        yield "resume", "resume = True: needs run-name, the run to continue"


def _width(e: Values) -> Iterator[Mistake]:
    own = architecture(e.backbone).fixed_width
    if own is not None and e.width not in (None, own):
        what = f"is torchvision's, whose width is {own}" if own else "has its own"
        yield (
            "width",
            f"width = {e.width}: {e.backbone} {what}; leave width out, or width=null after a file that has it",
        )


def _weights(e: Values) -> Iterator[Mistake]:
    if e.weights == IMAGENET and not e.backbone.startswith(LIBRARIES):
        why = f"there are none for '{e.backbone}'; choose a backbone {TORCHVISION}NAME or {TIMM}NAME"
        yield "weights", f"weights = 'imagenet': {why}"


def _norm(e: Values) -> Iterator[Mistake]:
    if e.norm == "group" and e.weights != NO_WEIGHTS and not e.weights.startswith(RUN):
        yield "norm", "norm = 'group': weights are of networks with BatchNorm; leave norm out, or the weights"
    elif e.norm == "group" and e.backbone.startswith(TIMM):
        yield (
            "norm",
            f"norm = 'group': models of timm keep their own norms; leave norm out, or choose {TORCHVISION}NAME",
        )


def _train_from(e: Values) -> Iterator[Mistake]:
    row = METHODS[e.method]
    if e.train_from == HEAD and row.trains and row.shared == ("backbone",) and not uses_attention(e):
        yield "train-from", f"train-from = 'head': '{e.method}' shares the backbone alone; name a stage of it"


def _solved(e: Values) -> Iterator[Mistake]:
    row = METHODS[e.method]
    if row.trains:
        return
    if uses_attention(e):
        yield "attention", f"attention = True: '{e.method}' trains nothing, and attention has to learn; leave it out"
    if e.norm == "local":
        yield (
            "norm",
            f"norm = 'local': '{e.method}' adds up features, which sites must compute alike; leave it out",
        )


def _head_start(e: Values) -> Iterator[Mistake]:
    if e.head_start == "random":
        return
    row, said = METHODS[e.method], f"head-start = '{e.head_start}'"
    if not row.trains:
        yield "head-start", f"{said}: '{e.method}' solves its head itself; leave it out"
    elif not row.heads:
        yield "head-start", f"{said}: '{e.method}' has no head that starts at random; leave it out"
    elif uses_attention(e):
        yield "head-start", f"{said}: label-aware attention has to learn before its features say much; leave it out"
    elif e.labels and (taken := HEAD_STARTS[e.head_start].labels) not in ("any", e.labels):
        yield "head-start", f"{said}: it takes {taken} label an image; choose ridge"


def _mixing(e: Values) -> Iterator[Mistake]:
    for name, alpha in (("mixup", e.mixup), ("cutmix", e.cutmix)):
        if alpha and not METHODS[e.method].mixes:
            why = f"method '{e.method}' cannot learn from mixed labels; leave it out, or choose another method"
            yield name, f"{name} = {alpha:g}: {why}"


def _mixed_views(e: Values) -> Iterator[Mistake]:
    if e.cached_views and (e.mixup or e.cutmix):
        why = "mixup and cutmix mix images before the stages that stand still, which are then computed each time"
        yield "cached-views", f"cached-views = {e.cached_views}: {why}; leave one of them out"


def _composites(e: Values) -> Iterator[Mistake]:
    if e.composites and e.partition == "natural":
        yield "partition", "partition = 'natural': composites belong to no site; use dirichlet or iid"
    conditions = {name: row.acts.when.words for name, row in ROWS.items() if row.acts.when}
    for name in (name for name, words in conditions.items() if words == is_set("composites").words):
        value = getattr(e, python_name(name))
        if not e.composites and value != ROWS[name].default:
            yield name, f"{name} = {value}: there are no composites; set composites, too"


def _labels(e: Values) -> Iterator[Mistake]:
    if e.labels and e.partition != "deployed":
        yield "labels", f"labels = '{e.labels}': with partition '{e.partition}' the data say; leave it out"
    elif e.labels and (taken := METHODS[e.method].labels) not in ("any", e.labels):
        yield "labels", f"labels = '{e.labels}': method '{e.method}' takes {taken} an image"


def _label_rule(e: Values) -> Iterator[Mistake]:
    if e.partition == "deployed" and e.label_rule != "mask":
        yield "label-rule", f"label-rule = '{e.label_rule}': real sites pass no images on; leave it out"


def _missing_classes(e: Values) -> Iterator[Mistake]:
    if e.missing_classes and e.partition != "dirichlet":
        why = f"with partition '{e.partition}' no class is missing by design; use dirichlet"
        yield "missing-classes", f"missing-classes = {e.missing_classes:g}: {why}"


_RULES: tuple[Rule, ...] = (
    *(_natural, _site_key, _group_key, _classes, _pixels, _resume, _width, _weights, _norm, _train_from, _solved),
    *(_head_start, _mixing, _mixed_views, _composites, _labels, _label_rule, _missing_classes),
)
