"""Whether a site's policy allows what an experiment asks; the site decides, whatever the coordinator says."""

from client_app.site_config import Policy
from common.config import Experiment
from common.errors import UserError
from common.methods import Method


def check_policy(policy: Policy, experiment: Experiment, row: Method) -> None:
    """Refuse what the site does not allow.

    Args:
        policy: the site's.
        experiment: as it came from the coordinator.
        row: its method.

    Raises:
        UserError: the method, an extra that it sends, or a number of epochs is not allowed here.
    """
    if row.name not in policy.methods:
        raise UserError(f"this site's policy does not allow method '{row.name}'; allowed: {', '.join(policy.methods)}")
    if refused := [name for name in row.returns if name not in policy.extras]:
        raise UserError(f"this site's policy does not allow {row.title} to send {', '.join(refused)} (policy.extras)")
    epochs = {
        "local-epochs": experiment.local_epochs,
        "finetune-epochs": experiment.finetune_epochs,
        "fedrep-body-epochs": experiment.fedrep_body_epochs,
        "fedrep-head-epochs": experiment.fedrep_head_epochs or 1,
    }
    for key, value in epochs.items():
        if value > policy.max_epochs:
            raise UserError(f"{key} = {value}: this site's policy allows at most max-epochs = {policy.max_epochs}")
