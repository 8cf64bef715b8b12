"""The methods for several labels an image, against naive loops, and what realignment cannot change."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from trained_runs import TrainedRuns

from client_app.methods import load
from client_app.methods.base import LocalContext
from client_app.methods.realign import realign_personal
from common.config import Experiment
from common.data import build_federation
from common.metrics import groups
from common.models.heads import linear_from
from common.models.model import Model, build_model
from common.multilabel_metrics import split_rows
from server_app.engines.engines import run_local
from server_app.frames.build import build_frame
from server_app.generic.evaluation import GenericEvaluation
from server_app.generic.realign import add_prior, realign_generic
from server_app.run.journal import read_events

TinyFor = Callable[..., Experiment]
COUNTS, IMAGES = [5.0, 1, 7, 2, 1, 1, 1, 1, 1, 30], 40


def site_model(experiment: Experiment) -> tuple[Model, torch.Tensor, torch.Tensor, LocalContext]:
    generator = torch.Generator().manual_seed(0)
    frame, _ = build_frame(experiment, 10, 16)
    model = build_model(experiment, 1, 10, frame, site="site-00").eval()
    images = torch.randn(5, 1, 12, 12, generator=generator)
    labels = torch.rand(5, 10, generator=generator) < 0.3
    visible = torch.tensor([True] * 8 + [False, True])
    return model, images, labels, LocalContext(experiment, torch.tensor(COUNTS), {}, IMAGES, visible)


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
                cosines = [float(v @ h / (v.norm() * h.norm())) / 0.07 for v in w]
                clustering -= cosines[c] - math.log(sum(math.exp(x) for x in cosines))
    diagonal = torch.stack([scores[:, c, c] for c in range(10)], dim=1)
    assert losses["backbone"].item() == pytest.approx(
        bce_by_hand(diagonal, labels, local.visible, [0.0] * 10), rel=1e-4
    )
    assert losses["clustering"].item() == pytest.approx(clustering / 5, rel=1e-3)
    known = labels & local.visible
    best = scores.amax(dim=2) if attention else diagonal  # of one feature for all, other scores may be of true labels
    hard = sorted(best[b, c] for b in range(5) for c in range(10) if local.visible[c] and not labels[b, c])
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
    model, images, labels, local = site_model(tiny_for("fedrod", multilabel=True))
    losses = load("fedrod").losses(model, images, labels, local)
    assert model.aux_head is not None and local.visible is not None
    by_hand = bce_by_hand(model.aux_head(model(images)), labels, local.visible, prior_by_hand(1.0))
    assert losses["backbone"].item() == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("kind", ["bce", "focal", "asymmetric", "distribution-balanced"])
def test_a_hidden_label_changes_no_loss(tiny_for: TinyFor, kind: str) -> None:
    model, images, labels, local = site_model(tiny_for("fedavg", multilabel=True, multilabel_loss=kind))
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


@pytest.mark.parametrize("bias_mode", ["keep", "scale", "drop"])
def test_personal_realignment_ranks_each_class_as_psi_does(bias_mode: Any) -> None:
    """Eq. 7 takes ψ's directions, so a class's AUC is ψ's, whatever φ_k's was; scikit-learn is the judge."""
    generator = torch.Generator().manual_seed(4)
    psi, phi = (torch.randn(6, 8, generator=generator) for _ in range(2))
    biases = [torch.randn(6, generator=generator) for _ in range(2)]
    features = torch.randn(200, 6, 8, generator=generator)
    labels = (torch.rand(200, 6, generator=generator) < 0.3).numpy()
    realigned = linear_from(*realign_personal(psi, biases[0], phi, biases[1], "paper", bias_mode))
    found, of_psi, of_phi = (
        [roc_auc_score(labels[:, c], head(features).detach()[:, c]) for c in range(6)]
        for head in (realigned, linear_from(psi, biases[0]), linear_from(phi, biases[1]))
    )
    assert found == pytest.approx(of_psi) and found != pytest.approx(of_phi, abs=0.01)


@pytest.mark.parametrize(
    ("method", "key", "kind"),
    [
        *(("fednca_ml", "query_frame", kind) for kind in ("etf", "padded_etf", "sparse_etf")),
        *(("fedloge_ml", "frame", kind) for kind in ("etf", "sparse_etf")),
    ],
)
def test_the_frame_is_bit_identical_after_a_run(
    tiny_for: TinyFor, method: str, key: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the models that trained, in their rounds and fine-tuning, where it classifies and where it asks."""
    import client_app.app as site_code

    trained: list[Model] = []
    real = site_code.train_site

    def watching(model: Model, *args: Any, **more: Any) -> dict[str, float]:
        trained.append(model)
        return real(model, *args, **more)

    monkeypatch.setattr(site_code, "train_site", watching)
    experiment = tiny_for(method, **{key: kind}, finetune_epochs=1)
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
    assert final["aux_head"]["macro_f1"] != pytest.approx(final["aux_head_realigned"]["macro_f1"])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("fedloge_ml", {"realign_global": "prior"}),
        ("fedloge_ml", {"realign_global": "none", "multilabel_loss": "distribution-balanced"}),
        ("fedloge_ml", {"attention": False}),
        ("fedloge_ml", {"attention": False, "frame_trains": True}),
        ("fedrod", {"multilabel_loss": "focal", "attention": True}),
        ("fednca_ml", {"multilabel_loss": "asymmetric", "frame_trains": True}),
        *((name, {"attention": True, "label_rule": "strict"}) for name in ("fedprox", "fedbn", "fedrep", "ditto")),
    ],
)
def test_options_of_several_labels_go_together(trained: TrainedRuns, method: str, options: dict[str, Any]) -> None:
    folder = trained(method=method, multilabel=True, missing_classes=0.3, **options)
    events = read_events(folder)
    final = {e["head"]: e for e in events if e["event"] == "generic" and e["stage"] == "final"}
    assert all(0 < e["macro_auc"] < 1 for e in final.values())
    assert [e["answered"] for e in events if e["event"] == "round"] == [3, 3]
    if options.get("realign_global") == "none":
        assert final["aux_head"]["macro_f1"] == final["aux_head_realigned"]["macro_f1"]


def test_each_form_of_the_global_realignment_is_its_formula(tiny_for: TinyFor) -> None:
    heads: dict[str, nn.Linear] = {}
    for how in ("none", "unit", "prior"):
        experiment = tiny_for("fedloge_ml", realign_global=how)
        federation = build_federation(experiment)
        frame, _ = build_frame(experiment, 10, 16)
        made = GenericEvaluation(experiment, federation.dataset, groups(federation.class_counts), frame).heads()
        heads[how] = cast(nn.Linear, made["aux_head_realigned"])
        psi = cast(nn.Linear, made["aux_head"])
    assert torch.equal(heads["none"].weight, psi.weight) and torch.equal(heads["prior"].weight, psi.weight)
    torch.testing.assert_close(heads["unit"].weight, psi.weight / psi.weight.norm(dim=1, keepdim=True))
    labels = federation.dataset.test.labels
    tuning, _ = split_rows(len(labels), experiment.run.seed, "")
    share = (labels[tuning].sum(axis=0) + 1) / (len(tuning) + 2)
    added = (heads["prior"].bias - psi.bias).detach().numpy()
    np.testing.assert_allclose(added, np.log(share / (1 - share)), rtol=1e-5)


def test_the_personal_head_keeps_its_own_bias(tiny_for: TinyFor) -> None:
    model, _, _, local = site_model(tiny_for("fedloge_ml", realign_bias="scale"))
    assert model.personal_head is not None and model.aux_head is not None
    with torch.no_grad():
        model.personal_head.bias += 3
        model.aux_head.bias -= 3
    head = load("fedloge_ml").realigned_head(model, local)
    assert head is not None and torch.equal(head.bias, model.personal_head.bias)


def test_generic_figures_are_those_of_scikit_learn(tiny_for: TinyFor, trained: TrainedRuns) -> None:
    experiment = tiny_for("fedavg", multilabel=True)
    folder = trained(method="fedavg", multilabel=True)
    federation = build_federation(experiment)
    from common.models.features import extract_features
    from common.models.model import load_state

    saved = load_file(folder / "generic.safetensors")
    model = build_model(experiment, 1, 10)
    load_state(model, {k: v for k, v in saved.items() if k.startswith(("backbone.", "aux_head."))})
    everything = np.arange(len(federation.dataset.test))
    features, labels = extract_features(model.backbone, federation.dataset.test, everything, federation.dataset)
    assert model.aux_head is not None
    _, measured = split_rows(len(labels), experiment.run.seed, "")
    scores = model.aux_head(features).sigmoid().detach().numpy()[measured]
    truth = labels.numpy()[measured]
    final = next(e for e in read_events(folder) if e["event"] == "generic" and e["stage"] == "final")
    assert final["macro_auc"] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert final["micro_auc"] == pytest.approx(roc_auc_score(truth, scores, average="micro"))
