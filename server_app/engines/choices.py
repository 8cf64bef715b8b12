"""Words that the command line offers. It imports nothing, so that `--help` and a mistyped word answer at once."""

from common.errors import UserError

DEFAULT_ENGINE = "flower"
ENGINES = (DEFAULT_ENGINE, "local")  # keys of `engines._ENGINES`
TUNING_METRICS = ("generic", "personal", "fine-tuned", "both")  # what `fednc tune` can choose by


def check_engine(engine: str) -> None:
    """Raise `UserError` for a word that names no engine."""
    if engine not in ENGINES:
        raise UserError(f"engine = '{engine}': allowed: {', '.join(ENGINES)}")
