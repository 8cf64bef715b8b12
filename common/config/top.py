"""The two keys of an experiment that stand in no section."""

from typing import Annotated

from common.keys import KeyModel, OneOf, key
from common.methods import METHODS


class TopKeys(KeyModel):
    """What runs, and what it is called."""

    name: str = key(
        "experiment", pattern=r"^\w[\w.-]{0,63}$", about="shown in reports and folder names", resume="host", common=True
    )
    method: Annotated[str, OneOf(METHODS)] = key(
        "fedloge", about="a file of common/methods", common=True, everyday=True
    )
