"""FedBABU (Oh et al., ICLR 2022, https://arxiv.org/abs/2106.06042), Algorithm 1.

Shared: backbone. Fixed: a random head, the same everywhere because it derives from the seed; it neither
trains nor travels. Loss: CE(ψ(θ(x)), y) for θ alone. Personal: the whole model, fine-tuned at the end for
`finetune-epochs`; without any, the personal model is the generic one.
Defaults: `finetune-epochs` 0, ours, as for every method; the paper fine-tunes for 5.
"""

from client_app.methods.base import Phase
from client_app.methods.fedavg import FedAvg
from common.config import Experiment


class FedBABU(FedAvg):
    """FedAvg's loss under a frozen head."""

    def phases(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return `local-epochs` of the backbone alone."""
        return (Phase(experiment.train.local_epochs, frozen=("aux_head",)),)

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return epochs of the whole model."""
        return (Phase(experiment.personalise.finetune_epochs),)


METHOD = FedBABU()
