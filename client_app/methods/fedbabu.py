"""FedBABU (Oh et al., ICLR 2022, https://arxiv.org/abs/2106.06042), Algorithm 1.

Shared: backbone. Fixed: a random head, the same everywhere because it derives from the seed; it neither
trains nor travels. Personal: the whole model, fine-tuned at the end for `finetune-epochs` (the paper's
default is all of it, for 5 epochs); without any, the personal model is the generic one.
"""

from client_app.methods.base import Phase
from client_app.methods.fedavg import FedAvg
from common.config import Experiment


class FedBABU(FedAvg):
    """FedAvg's loss under a head that stands still."""

    def phases(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return `local-epochs` of the backbone alone."""
        return (Phase(experiment.local_epochs, frozen=("aux_head",)),)

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return epochs of the whole model."""
        return (Phase(experiment.finetune_epochs),)


METHOD = FedBABU()
