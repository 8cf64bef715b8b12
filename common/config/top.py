"""The two keys of an experiment that stand in no section."""

from pydantic import field_validator

from common.errors import did_you_mean, nearest
from common.keys import KeyModel, key
from common.methods import METHODS


class TopKeys(KeyModel):
    """What runs, and what it is called."""

    name: str = key(
        "experiment", pattern=r"^\w[\w.-]{0,63}$", about="shown in reports and folder names", resume="host", common=True
    )
    method: str = key("fedloge", about="a file of common/methods", common=True, everyday=True)

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        if name not in METHODS:
            near = nearest(name, METHODS)
            raise ValueError(f"{did_you_mean(near)}allowed: {', '.join(sorted(METHODS))}")
        return name
