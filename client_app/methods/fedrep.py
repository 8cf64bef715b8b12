"""FedRep (Collins et al., ICML 2021, https://arxiv.org/abs/2102.07078), Algorithm 1.

Shared: backbone (the representation). Personal: head. Loss: CE(φ_k(θ(x)), y). In each round the head trains first
with the backbone frozen, then the backbone with the head frozen. A part is frozen in full: its
BatchNorm uses running statistics, where implementations that only stop gradients let them move. The method has no
generic model.

Defaults: `fedrep-body-epochs` 1, as in the paper's experiments on CIFAR. `fedrep-head-epochs`, ours: what remains of
`local-epochs` but at least one, so that with more `local-epochs` than `fedrep-body-epochs` every method passes over
the images equally often; the paper's experiments train the head for 10 epochs a round.
"""

from client_app.methods.base import Phase
from client_app.methods.fedper import FedPer
from common.config import Experiment
from common.methods.fedrep import FedRepOptions


class FedRep(FedPer):
    """FedPer's loss, minimised over the head, then over the backbone."""

    def phases(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return head epochs, then body epochs."""
        options = FedRepOptions.of(experiment)
        body_epochs = options.fedrep_body_epochs
        head_epochs = options.fedrep_head_epochs or max(1, experiment.train.local_epochs - body_epochs)
        return Phase(head_epochs, frozen=("backbone",)), Phase(body_epochs, frozen=("personal_head",))


METHOD = FedRep()
