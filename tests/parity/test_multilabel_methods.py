"""The methods for several labels an image, against naive loops, and what realignment cannot change."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from client_app.methods import load
from client_app.methods.base import Local
from common.config import Experiment
from common.data import build_federation
from common.heads import linear_from
from common.model import Model, build_model
from server_app.engines import run_local
from server_app.frames import build_frame
from server_app.journal import read_events
from server_app.realign import add_prior, realign_generic

TinyFor = Callable[..., Experiment]
COUNTS, IMAGES = [5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30], 40


def site_model(experiment: Experiment) -> tuple[Model, torch.Tensor, torch.Tensor, Local]:
    generator = torch.Generator().manual_seed(0)
    frame, _ = build_frame(experiment, 10, 16)
    model = build_model(experiment, 1, 10, frame, site="site-00").eval()
    images = torch.randn(5, 1, 12, 12, generator=generator)
    labels = torch.rand(5, 10, generator=generator) < 0.3
    visible = torch.tensor([True] * 8 + [False, True])
    return model, images, labels, Local(experiment, torch.tensor(COUNTS), {}, IMAGES, visible)


def bce_by_hand(logits: torch.Tensor, labels: torch.Tensor, visible: torch.Tensor, shift: list[float]) -> float:
    total = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for c, (z, y) in enumerate(zip(row, truth, strict=True)):
            p = 1 / (1 + math.exp(-(z + shift[c])))
            total -= (math.log(p) if y else math.log(1 - p)) * bool(visible[c])
    return total / len(labels)


def prior_by_hand(t: float) -> list[float]:
    shares = [(n + 1) / (IMAGES + 2) for n in COUNTS]
    return [t * math.log(share / (1 - share)) for share in shares]


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("trains", [True, False])
def test_fednca_ml_adds_its_regularisers_to_the_diagonals_loss(
    tiny_for: TinyFor, attention: bool, trains: bool
) -> None:
    experiment = tiny_for("fednca_ml", attention=attention, frame_trains=trains, suppression_weight=0.5)
    model, images, labels, local = site_model(experiment)
    losses = load("fednca_ml").losses(model, images, labels, local)
    assert model.class_head is not None and model.frame is not None and local.visible is not None
    features = model(images)
    assert features.dim() == (3 if attention else 2)
    w = (model.class_head.vectors if trains else model.frame).detach()
    assert trains == (model.class_head.vectors is not None)
    scores = torch.zeros(5, 10, 10)
    clustering = 0.0
    for b in range(5):
        for c in range(10):
            h = features[b, c] if attention else features[b]
            for j in range(10):
                scores[b, c, j] = 10 * float(w[j] @ h)  # the scale is 10 and the biases 0 at first
            if labels[b, c] and local.visible[c]:
                cosines = [float(v @ h / (v.norm() * h.norm())) / 0.07 for v in model.frame]
                clustering -= cosines[c] - math.log(sum(math.exp(x) for x in cosines))
    diagonal = torch.stack([scores[:, c, c] for c in range(10)], dim=1)
    assert losses["backbone"].item() == pytest.approx(
        bce_by_hand(diagonal, labels, local.visible, [0.0] * 10), rel=1e-4
    )
    assert losses["clustering"].item() == pytest.approx(clustering / 5, rel=1e-3)
    known = labels & local.visible
    hard = sorted(max(scores[b, c]) for b in range(5) for c in range(10) if local.visible[c] and not labels[b, c])
    worst = hard[-int(known.sum()) :]
    suppression = sum(max(0.0, 1 / (1 + math.exp(-float(v))) - 0.3) for v in worst) / 5
    assert losses["suppression"].item() == pytest.approx(0.5 * suppression, rel=1e-3)


def test_fedloge_ml_compensates_the_prior_for_what_is_averaged_alone(tiny_for: TinyFor) -> None:
    model, images, labels, local = site_model(tiny_for("fedloge_ml", prior_temperature=0.7))
    losses = load("fedloge_ml").losses(model, images, labels, local)
    features = model(images)
    assert model.aux_head is not None and model.personal_head is not None and local.visible is not None
    for name, logits, shift in (
        ("backbone", model.frame_logits(features), prior_by_hand(0.7)),
        ("aux_head", model.aux_head(features), prior_by_hand(0.7)),
        ("personal_head", model.personal_head(features), [0.0] * 10),
    ):
        assert losses[name].item() == pytest.approx(bce_by_hand(logits, labels, local.visible, shift), rel=1e-4), name
    gradients = torch.autograd.grad(
        losses["aux_head"] + losses["personal_head"], list(model.backbone.parameters()), allow_unused=True
    )
    assert all(g is None or not g.any() for g in gradients)  # on detached features


def test_fedrods_generic_head_has_the_same_compensation(tiny_for: TinyFor) -> None:
    model, images, labels, local = site_model(tiny_for("fedrod", several=True))
    losses = load("fedrod").losses(model, images, labels, local)
    assert model.aux_head is not None and local.visible is not None
    by_hand = bce_by_hand(model.aux_head(model(images)), labels, local.visible, prior_by_hand(1.0))
    assert losses["backbone"].item() == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("kind", ["bce", "focal", "asymmetric", "distribution-balanced"])
def test_a_hidden_label_changes_no_loss(tiny_for: TinyFor, kind: str) -> None:
    model, images, labels, local = site_model(tiny_for("fedavg", several=True, multilabel_loss=kind))
    method = load("fedavg")
    before = method.losses(model, images, labels, local)["backbone"].item()
    flipped = labels.clone()
    flipped[:, 8] = ~flipped[:, 8]
    assert method.losses(model, images, flipped, local)["backbone"].item() == pytest.approx(before)
    flipped[:, 7] = ~flipped[:, 7]
    assert method.losses(model, images, flipped, local)["backbone"].item() != pytest.approx(before)


@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
def test_realignment_changes_no_class_auc(bias_mode: Any) -> None:
    """Rescaling ψ_c, or shifting b_c, is monotone within a class; scikit-learn is the judge."""
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(6, 8, generator=generator), torch.randn(6, generator=generator)
    features = torch.randn(200, 6, 8, generator=generator)
    labels = (torch.rand(200, 6, generator=generator) < 0.3).numpy()
    realigned = realign_generic(weight, bias, bias_mode)
    assert realigned[1] is not None
    prior = add_prior(realigned[1], torch.tensor([3.0, 1, 50, 20, 0, 9]), 60, 1.0)
    before = linear_from(weight, bias)(features).detach().numpy()
    for head in (linear_from(*realigned), linear_from(realigned[0], prior)):
        after = head(features).detach().numpy()
        for c in range(6):
            assert roc_auc_score(labels[:, c], after[:, c]) == pytest.approx(roc_auc_score(labels[:, c], before[:, c]))
    share = (torch.tensor([3.0, 1, 50, 20, 0, 9]) + 1) / 62
    torch.testing.assert_close(prior - realigned[1], torch.log(share / (1 - share)))


@pytest.mark.parametrize("method", ["fednca_ml", "fedloge_ml"])
@pytest.mark.parametrize("kind", ["etf", "padded_etf", "sparse_etf"])
def test_the_frame_is_bit_identical_after_a_run(
    tiny_for: TinyFor, method: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the models that trained, in their rounds and fine-tuning, where it classifies and where it asks."""
    import client_app.app as site_code

    trained: list[Model] = []
    real = site_code.train_site

    def watching(model: Model, *args: Any, **more: Any) -> dict[str, float]:
        trained.append(model)
        return real(model, *args, **more)

    monkeypatch.setattr(site_code, "train_site", watching)
    experiment = tiny_for(method, query_frame=kind, finetune_epochs=1)
    folder = run_local(experiment)
    built, _ = build_frame(experiment, 10, 16)
    assert len(trained) == (9 if method == "fednca_ml" else 6)  # 3 sites, 2 rounds; then the whole model or a head
    for model in trained:
        frames = {name: buffer for name, buffer in model.named_buffers() if name.split(".")[-1] == "frame"}
        assert frames.keys() == {"frame", "backbone.frame"}
        assert all(torch.equal(frame, built) for frame in frames.values())
    assert np.array_equal(load_file(folder / "generic.safetensors")["frame.weight"], built.numpy())
    if method == "fednca_ml":
        for path in folder.glob("sites/*/personal_model.safetensors"):
            assert np.array_equal(load_file(path)["head.weight"], built.numpy())


def test_realignment_leaves_the_reported_auc_of_a_run_and_moves_its_f1(tiny_for: TinyFor) -> None:
    folder = run_local(tiny_for("fedloge_ml", realign_bias="keep", rounds=3, local_epochs=3))
    final = {e["head"]: e for e in read_events(folder) if e["event"] == "generic" and e["stage"] == "final"}
    assert final["aux_head"]["per_class"] == pytest.approx(final["aux_head_realigned"]["per_class"])


def test_generic_figures_are_those_of_scikit_learn(tiny_for: TinyFor) -> None:
    experiment = tiny_for("fedavg", several=True)
    folder = run_local(experiment)
    federation = build_federation(experiment)
    from common.features import extract_features
    from common.model import load_state
    from common.multilabel_metrics import split_rows

    saved = load_file(folder / "generic.safetensors")
    model = build_model(experiment, 1, 10)
    load_state(model, {k: v for k, v in saved.items() if k.startswith(("backbone.", "aux_head."))})
    everything = np.arange(len(federation.dataset.test))
    features, labels = extract_features(model.backbone, federation.dataset.test, everything, federation.dataset)
    assert model.aux_head is not None
    _, measured = split_rows(len(labels), experiment.seed, "")
    scores = model.aux_head(features).sigmoid().detach().numpy()[measured]
    truth = labels.numpy()[measured]
    final = next(e for e in read_events(folder) if e["event"] == "generic" and e["stage"] == "final")
    assert final["macro_auc"] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert final["micro_auc"] == pytest.approx(roc_auc_score(truth, scores, average="micro"))
