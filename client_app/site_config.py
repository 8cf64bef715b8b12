"""A real site's own configuration file: where its images are, and what it allows. It never leaves the site.

name: hospital-a
data: /data/manifest.csv        # or a folder with train/<class>/… and test/<class>/…, or an .npz
state-dir: /state               # personal models, cached frame
class-map: {naevus: nevus}      # local names of the experiment's classes
policy: {methods: [fedloge], extras: [], max-epochs: 10, min-images: 50}
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import UserError, nearest
from common.methods import METHODS
from common.wire import EXTRAS


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


class Policy(BaseModel):
    """What a site allows an experiment to ask of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_hyphens, populate_by_name=True)

    methods: tuple[str, ...] = Field(tuple(METHODS), description="methods that may run here; default: all")
    extras: tuple[str, ...] = Field((), description="what may be told beside weights, names of wire.EXTRAS")
    max_epochs: int = Field(20, ge=1, description="passes over the images a round, and at the end")
    min_images: int = Field(1, ge=1, description="with fewer training images the site does not take part")


class SiteConfig(BaseModel):
    """One real site.

    Attributes:
        name: unique in the federation.
        data: manifest, folder or archive, absolute.
        state_dir: the site's own folder for what must outlive a process, absolute.
        class_map: local label to class of the experiment.
        policy: what the site allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_hyphens, populate_by_name=True)

    name: str = Field(pattern=r"^\w[\w.-]{0,63}$")
    data: Path
    state_dir: Path
    class_map: tuple[tuple[str, str], ...] = ()
    policy: Policy = Field(default_factory=lambda: Policy.model_validate({}))


def load_site_config(path: Path) -> SiteConfig:
    """Read a site's YAML; relative paths in it start from its folder.

    Raises:
        UserError: no such file, no YAML, an unknown key or an impossible value, each named.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"site-config: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(values).__name__}")
    _check_keys(path, values, SiteConfig)
    if isinstance(policy := values.get("policy"), dict):
        _check_keys(path, policy, Policy)
        _check_words(path, policy, "methods", tuple(METHODS))
        _check_words(path, policy, "extras", tuple(EXTRAS))
    if isinstance(mapped := values.get("class-map"), dict):
        values["class-map"] = [[str(key), str(value)] for key, value in mapped.items()]
    for key in ("data", "state-dir"):
        if isinstance(given := values.get(key), str):
            values[key] = (path.parent / Path(given).expanduser()).resolve()
    try:
        return SiteConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(_hyphens(str(part)) for part in first["loc"])
        raise UserError(f"{path}: {place} = {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def _check_keys(path: Path, values: dict[str, Any], model: type[BaseModel]) -> None:
    known = [_hyphens(name) for name in model.model_fields]
    for key in values:
        if key not in known:
            near = nearest(str(key), known)
            hint = f"did you mean '{near}'?" if near else f"known keys: {', '.join(known)}"
            raise UserError(f"{path}: unknown key {key!r}: {hint}")


def _check_words(path: Path, policy: dict[str, Any], key: str, known: tuple[str, ...]) -> None:
    for word in policy.get(key) or ():
        if word not in known:
            near = nearest(str(word), known)
            raise UserError(f"{path}: policy.{key}: {word!r}: {f'did you mean {near!r}? ' if near else ''}known: "
                            f"{', '.join(known)}")  # fmt: skip
