"""FedBN (Li et al., ICLR 2021, https://arxiv.org/abs/2102.07623), Algorithm 1.

Shared: backbone and head without BatchNorm. Personal: every BatchNorm parameter and statistic, which is
`local_norm` in its row of `common/methods`. Loss: CE(ψ(θ_k(x)), y). The method has no generic model: the global
weights have no normalisation of their own. Defaults: no keys of its own.
"""

from client_app.methods.fedavg import FedAvg

METHOD = FedAvg()  # the loss is FedAvg's: what differs is what travels
