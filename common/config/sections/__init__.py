"""The sections of an experiment: every key that is not a method's own stands in one of them.

Every default is the paper's, or says why it is not. Methods' own keys: `common/methods/`.
"""

from common.config.sections.data import DataSection
from common.config.sections.model import ModelSection
from common.config.sections.personalise import PersonaliseSection
from common.config.sections.rounds import RoundsSection
from common.config.sections.run import RunSection
from common.config.sections.sites import SitesSection
from common.config.sections.train import TrainSection
from common.keys import KeyModel

__all__ = [
    "SECTIONS",
    "DataSection",
    "ModelSection",
    "PersonaliseSection",
    "RoundsSection",
    "RunSection",
    "SitesSection",
    "TrainSection",
]

SECTIONS: dict[str, type[KeyModel]] = {
    "data": DataSection,
    "sites": SitesSection,
    "model": ModelSection,
    "train": TrainSection,
    "personalise": PersonaliseSection,
    "rounds": RoundsSection,
    "run": RunSection,
}
