"""The experiment's configuration: what keys there are, how they are read, and what they say together.

`sections/` and `common/methods/` declare the keys; `rows.py` derives every list of them; `layout.py` knows the forms in
which they may be written; `reading.py` reads files and overrides.
"""

from common.config.effects import drop_ineffective
from common.config.experiment import Experiment
from common.config.layout import canonical
from common.config.overrides import from_run_config, parse_overrides
from common.config.reading import (
    APP_ROOT,
    DEFAULT_CONFIG,
    build,
    check_key,
    find_config,
    load,
    portable,
    read_experiment,
)
from common.config.rows import KEYS, PATH_KEYS, ROWS
from common.config.yaml_files import parse_value, read_yaml

__all__ = [
    "APP_ROOT",
    "DEFAULT_CONFIG",
    "KEYS",
    "PATH_KEYS",
    "ROWS",
    "Experiment",
    "build",
    "canonical",
    "check_key",
    "drop_ineffective",
    "find_config",
    "from_run_config",
    "load",
    "parse_overrides",
    "parse_value",
    "portable",
    "read_experiment",
    "read_yaml",
]
