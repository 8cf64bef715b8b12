"""A site's own file: where its images are, how its classes are called, and what it lets a coordinator do.

    name: hospital-a
    data: images/manifest.csv
    class-map: {nevus: NV}
    policy: {methods: [fedloge, fedavg], max-epochs: 10}

No coordinator sees it. Relative paths start from the file's folder.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, field_validator

from common.config.experiment import Experiment
from common.config.sections.data import TEST_SHARE
from common.config.yaml_files import given, read_yaml
from common.errors import MistakesError, UserError, did_you_mean, nearest, short_repr
from common.methods import METHODS
from common.names import class_name, site_name
from common.paths import expand
from common.validation import unknown_keys, valid_fields
from common.wire import EXTRAS, POLICY_METRICS

# strict: neither yes nor '3' is a number
Count = Annotated[int, Field(ge=1, strict=True)]
LearningRate = Annotated[float, Field(gt=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=1, strict=True)]

ModelT = TypeVar("ModelT", bound=BaseModel)


class Policy(BaseModel):
    """What a site lets a coordinator's experiment do with its images; see `check_policy`."""

    model_config = Experiment.model_config

    methods: tuple[str, ...] = Field(tuple(METHODS), description="methods it takes part in; default: all")
    extras: tuple[str, ...] = Field((), description="what it may send beside weights: EXTRAS of common/wire.py")
    metrics: tuple[str, ...] = Field(
        POLICY_METRICS, description="losses and metrics of its test images that it reports; default: all"
    )
    min_class_size: Count = Field(
        1, description="extras are refused, metrics of a class withheld, where a class that it has has fewer images"
    )
    max_epochs: Count = Field(20, description="passes over its images in a round, and in the fine-tuning at the end")
    min_images: Count = Field(1, description="with fewer training images it takes no part")
    max_rounds: Count | None = Field(None, description="rounds of a run; default: any number")
    max_learning_rate: LearningRate | None = Field(None, description="of any part of the model; default: any")

    @field_validator("methods", "extras", "metrics", mode="before")
    @classmethod
    def _known_words(cls, words: Any, info: Any) -> Any:
        allowed = {"methods": tuple(METHODS), "extras": tuple(EXTRAS), "metrics": POLICY_METRICS}
        known: Iterable[str] = allowed[info.field_name]
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"should be a list of words: [{', '.join(sorted(known))}]")
        if wrong := [f"'{word}': {did_you_mean(nearest(word, known))}" for word in words if word not in known]:
            raise ValueError(f"{', '.join(map(str.strip, wrong))} allowed: {', '.join(sorted(known))}")
        return words


class SiteConfig(BaseModel):
    """One site's configuration with absolute paths."""

    model_config = Experiment.model_config

    name: str = Field(description="how the coordinator and the reports call the site")
    data: Path = Field(description="a manifest (CSV), a folder of class folders (or train, test with such), or .npz")
    test_share: Share = Field(TEST_SHARE, description="of patients, else of images, where the data names no split")
    class_map: dict[str, str] = Field({}, description="the site's name of a class: the experiment's name of it")
    state_dir: Path = Field(description="folder of what stays at the site: personal models; default: state")
    cache: Path = Field(description="folder of decoded images; default: cache in state-dir")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda: without a GPU it takes no part")
    policy: Policy = Field(default_factory=lambda: Policy.model_validate({}), description="what the site allows")

    @property
    def trunks(self) -> Path:
        """Folder of what frozen stages of backbones make of the images."""
        return self.cache / "trunks"

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return site_name(name)

    @field_validator("class_map", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("should be a mapping, local name: name in the experiment")
        words = (*value.keys(), *value.values())
        if bad := [word for word in words if isinstance(word, bool) or not isinstance(word, str | int)]:
            quoted = ", ".join(map(short_repr, bad))  # YAML reads no: and 1: so
            raise ValueError(f"should map names to names; put quotes around {quoted}")
        named = {str(local): class_name(str(name)) for local, name in value.items()}
        return {unicodedata.normalize("NFC", local).strip(): name for local, name in named.items()}

    @field_validator("data")
    @classmethod
    def _is_there(cls, path: Path) -> Path:
        if not path.exists():
            raise ValueError("there is no such file or folder")
        return path


def load_site_config(path: str | Path) -> SiteConfig:
    """Read a site's YAML file.

    Raises:
        UserError: naming file, key and value of every mistake: unknown keys, impossible values, a missing key; or a
            missing or malformed file.
    """
    path = expand(path, "site configuration").absolute()
    keys = [name.replace("_", "-") for name in SiteConfig.model_fields]
    values, found = {"state-dir": "state"} | given(read_yaml(path), keys), []
    for key in ("data", "state-dir", "cache"):
        if isinstance(value := values.get(key), str):
            try:
                values[key] = (path.parent / expand(value, key)).resolve()
            except UserError as error:
                found.append((str(path), str(error)))
                values[key] = path  # some path, so that this is the only mistake that the key has
    values.setdefault("cache", Path(str(values["state-dir"])) / "cache")
    policy = values.pop("policy", None) or {}
    if isinstance(policy, Mapping):
        known, wrong = _checked(Policy, {str(key): value for key, value in policy.items()}, f"{path}: policy")
        found += wrong
        values |= {"policy": known} if known else {}
    else:
        found.append((str(path), f"policy = {short_repr(policy)}: should be 'key: value' lines"))
    config, wrong = _checked(SiteConfig, values, str(path))
    if (found := wrong + found) or config is None:
        raise MistakesError(found)
    return config


def _checked(model: type[ModelT], values: dict[str, Any], source: str) -> tuple[ModelT | None, list[tuple[str, str]]]:
    """Return the model, and every mistake with where it is."""
    keys = [name.replace("_", "-") for name in model.model_fields]
    config, wrong = valid_fields(model, {key: value for key, value in values.items() if key in keys})
    return config, [(source, words) for _, words in unknown_keys(values, keys) + wrong]
