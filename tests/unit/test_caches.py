"""What a process keeps from one task for the next: each such cache is known here, and why it is safe.

A tensor that is made while a graph is traced, in inference mode, under autocast or for another device must not come
back in a later task; the first `fednc export` of a process failed for one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client_app.methods import load
from common.config import APP_ROOT
from common.data.images import resident
from common.data.images.source import ArrayImages
from common.data.images.transforms import Scaling, prepare
from common.methods import METHODS

NO_TENSOR = "holds no tensor"
SAFE = {
    "client_app/site/archived_images.py: ArchivedImages._read": "NumPy's, of the object",
    "client_app/training/model_cache.py: _models": "built by the client app alone, untraced; the device is in the key",
    "client_app/site/site.py: _own_federation": "pixels and labels are NumPy's or files",
    "common/closed_form/sums.py: _upper": "NumPy's",
    "common/data/federation/build.py: Federation.test_counts": "NumPy's, of the object",
    "common/data/federation/build.py: Federation.train_counts": "NumPy's, of the object",
    "common/data/federation/build.py: _build": "pixels and labels are NumPy's or files",
    "common/data/federation/build.py: _coordinators": "pixels and labels are NumPy's or files",
    "common/data/federation/build.py: _with_moments": "pixels and labels are NumPy's or files",
    "common/data/images/pretrained.py: _filter_of": NO_TENSOR,
    "common/data/images/pretrained.py: _of": NO_TENSOR,
    "common/data/sources/loading.py: _load": "pixels and labels are NumPy's or files",
    "common/data/sources/loading.py: _reduce": NO_TENSOR,
    "common/data/images/pixel_cache.py: _decoder": NO_TENSOR,
    "common/data/images/views.py: _seeds": "NumPy's",
    "common/data/images/resident.py: _held": "one a device, made outside inference mode; nothing traced uses it",
    "common/installed.py: check_installed": NO_TENSOR,
    "common/installed.py: code_fingerprint": NO_TENSOR,
    "common/models/trunk.py: _digests": "weights of a model that is there, to tell them from others; nothing uses them",
    "common/models/trunk_cache.py: _digests": NO_TENSOR,
    "common/models/trunk_cache.py: _stores": "NumPy's, mapped files; values go to a device anew",
    "common/models/timm_layout.py: _arguments": NO_TENSOR,
    "common/models/timm_backbones.py: _shapes": "on the meta device, and asked for shapes alone",
    "common/models/timm_backbones.py: layout": NO_TENSOR,
    "common/timm_facts.py: pretrained_facts": NO_TENSOR,
    "common/models/torchvision_backbones.py: _shapes": "on the meta device, and asked for shapes alone",
    "common/models/weights.py: _sha256_of": NO_TENSOR,
    "common/packing.py: _header": NO_TENSOR,
    "common/packing.py: _read": NO_TENSOR,
    "common/wire.py: _parse_experiment": NO_TENSOR,
    "common/wire.py: experiment_json": NO_TENSOR,
    "server_app/compare/cells.py: Cell._identity": NO_TENSOR,
    "server_app/compare/cells.py: Cell.config_hash": NO_TENSOR,
    "server_app/compare/cells.py: _defaults": NO_TENSOR,
    "server_app/compare/lines.py: StoredRun.config": NO_TENSOR,
    "server_app/compare/lines.py: StoredRun.stem": NO_TENSOR,
    "server_app/generic/multilabel_analysis.py: AnalysisInput.features": "NumPy's, of the object",
    "server_app/generic/multilabel_analysis.py: AnalysisInput.order": NO_TENSOR,
    "server_app/generic/multilabel_analysis.py: AnalysisInput.positives": "NumPy's, of the object",
    "server_app/report/page.py: _environment": NO_TENSOR,
    "server_app/report/record.py: RunRecord.class_counts": NO_TENSOR,
    "server_app/report/record.py: RunRecord.class_order": NO_TENSOR,
    "server_app/report/record.py: RunRecord.classes": NO_TENSOR,
    "server_app/report/record.py: RunRecord.group_of": NO_TENSOR,
    "server_app/report/record.py: RunRecord.heads": NO_TENSOR,
    "server_app/report/record.py: RunRecord.majority_shares": NO_TENSOR,
    "server_app/report/record.py: RunRecord.site_names": NO_TENSOR,
    "server_app/report/record.py: RunRecord.test_counts": NO_TENSOR,
    "server_app/report/record.py: RunRecord.train_counts": NO_TENSOR,
}

DECORATORS = {"lru_cache", "cache", "cached_property"}
CONTAINERS = {"dict", "list", "set", "OrderedDict", "defaultdict", "WeakKeyDictionary", "WeakValueDictionary", "deque"}
CHANGES = {"setdefault", "append", "update", "pop", "popitem", "add", "insert", "extend", "remove", "clear", "discard"}
Node = ast.FunctionDef | ast.AsyncFunctionDef


def word(node: ast.AST) -> str:
    """Return the last word of a name: 'lru_cache' for `functools.lru_cache(maxsize=2)`."""
    if isinstance(node, ast.Call):
        return word(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def decorated(node: ast.AST, owner: str = "") -> Iterator[str]:
    """Yield the functions and properties that remember their answers."""
    for child in ast.iter_child_nodes(node):
        name = f"{owner}{child.name}" if isinstance(child, Node | ast.ClassDef) else ""
        if isinstance(child, Node) and DECORATORS & set(map(word, child.decorator_list)):
            yield name
        yield from decorated(child, f"{name}." if name else owner)


def changed_names(tree: ast.AST) -> set[str]:
    """Return names whose content a function changes, or that it binds anew for the whole module."""
    found: set[str] = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, Node)):
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                found |= set(node.names)
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                found.add(word(node.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
                found.add(word(node.func.value))
    return found - {""}  # of what has no name of its own


def module_caches(tree: ast.Module) -> Iterator[str]:
    """Yield a module's names that are changed while it works, containers that begin empty, and wrapped functions."""
    changed = changed_names(tree)
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        targets = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
        for name in map(word, targets):
            made = isinstance(value, ast.Call) and word(value) in CONTAINERS | DECORATORS
            empty = isinstance(value, ast.Dict | ast.List) and not _filled(value)
            if name in changed or made or empty:
                yield name


def _filled(value: ast.Dict | ast.List) -> bool:
    return bool(value.keys if isinstance(value, ast.Dict) else value.elts)


def caches(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {f"{path.relative_to(APP_ROOT).as_posix()}: {name}" for name in (*decorated(tree), *module_caches(tree))}


def test_every_cache_is_known_and_safe() -> None:
    """A new one is added to `SAFE` with the reason why no tensor of another mode or device can come out of it."""
    rooms = ("server_app", "client_app", "common")
    found = {cache for room in rooms for path in (APP_ROOT / room).rglob("*.py") for cache in caches(path)}
    assert found - SAFE.keys() == set()
    assert SAFE.keys() - found == set()


def test_the_search_finds_every_form_of_a_cache(tmp_path: Path) -> None:
    program = """
import functools
_kept = {}
_table = {"a": 1}
_filled = {"a": 1}
_wrapped = functools.lru_cache(print)
_last = None
_made: set[int] = set()
class Thing:
    @functools.cached_property
    def slow(self): return 1
@functools.lru_cache(maxsize=None)
def answer(): return 1
def work(key):
    global _last
    _last = key
    _filled[key] = 1
    @functools.cache
    def inner(): return 1
"""
    tree = ast.parse(program)
    assert set(decorated(tree)) == {"Thing.slow", "answer", "work.inner"}
    assert set(module_caches(tree)) == {"_kept", "_filled", "_wrapped", "_last", "_made"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_one_object_a_process_and_keeps_nothing(method: str) -> None:
    assert vars(load(method)) == {}


def test_pixels_are_scaled_by_tensors_of_ones_own() -> None:
    """Whatever a process did first with the same values: trace a graph, work in inference mode or under autocast."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    batch, values = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8), ((0.5,) * 3, (0.25,) * 3, "cpu")
    with FakeTensorMode():
        prepare(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), *values)
    with torch.inference_mode():
        prepare(batch, *values)
    with torch.autocast("cpu", torch.bfloat16):
        prepare(batch, *values)
    for answer in (prepare(batch, *values), Scaling(*values)(batch)):
        assert type(answer) is torch.Tensor and not answer.is_inference() and answer.dtype == torch.float32
        np.testing.assert_allclose(answer.numpy(), (0.2 - 0.5) / 0.25, rtol=1e-6)


def test_images_that_stay_on_a_device_can_be_trained_on_after_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_HOST_DEVICES", ())
    pixels: Any = np.zeros((4, 1, 2, 2), np.uint8)
    images = ArrayImages(pixels, np.zeros(4, np.int64))
    rows = np.arange(4, dtype=np.int64)
    with torch.inference_mode():
        resident.BatchSlices(images, rows, torch.device("cpu"))
    kept = resident._held[images][torch.device("cpu")]
    assert not kept.is_inference()
