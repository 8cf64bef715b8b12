"""A finished model in Python: load it, ask it, and get its answers as rows for a dataframe.

`server_app/api.py` has what comes before: reading and running an experiment, and an example of both.

Example:
    ```python
    from client_app.api import load_model, predict

    model = load_model("runs/pilot", site="site-00")
    table = predict(model, "images")  # pandas.DataFrame(table)
    ```
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from common.errors import UserError, unknown

if TYPE_CHECKING:
    from common.models.trained import TrainedModel

__all__ = ["load_model", "predict"]


def load_model(
    model: str | Path, site: str = "", *, personal: str | Path | None = None, head: str = "", device: str = "cpu"
) -> "TrainedModel":
    """Load a finished model: the generic one, or a site's personal one.

    Args:
        model: a run's folder, its `generic.safetensors`, or an exported `model.safetensors`.
        site: a simulated site, whose personal model lies in the run's folder.
        personal: instead of `site`, a real site's `personal_model.safetensors`.
        head: of the generic model; '' for the one that the method is judged by.
        device: 'auto', 'cpu', 'cuda' or 'mps'.

    Returns:
        A module: uint8 images [B, channels, H, W] → probabilities [B, C]. Its `classes` are the names of the C classes,
        its `predict` answers with those.

    Raises:
        UserError: no such run, site or head; a file that is damaged or of another run; two of `site`, `personal` and
            `head`.

    Example:
        `load_model("runs/pilot").predict(images)`
    """
    if sum(map(bool, (site, personal, head))) > 1:
        raise UserError("site, personal and head each name the model to load: give one of them")
    from common.models.trained import PERSONAL, load_trained

    folder = Path(model)
    if site:
        sites = {unquote(path.parent.name): path for path in sorted(folder.glob(f"sites/*/{PERSONAL}"))}
        if not sites:
            raise UserError(f"{folder}: holds no site's model: give the folder of a finished simulation, or `personal`")
        if site not in sites:
            raise unknown("site", site, sites)
        personal = sites[site]
    return load_trained(folder, Path(personal) if personal else None, head, device)


def predict(
    model: "TrainedModel", images: str | Path | Sequence[str | Path], *, batch: int = 64
) -> list[dict[str, Any]]:
    """Return a model's answers for image files: one flat dict an image, with the columns of `fednc-site predict`.

    Args:
        model: of `load_model`.
        images: folders (with all below them), image files, and CSVs that list some; or one of them.
        batch: images at a time.

    Returns:
        `image`; `predicted`, several labels with | between them; `p:<class>`, a probability for each class, None where
        the image could not be read; `error`, why it could not, or ''.

    Raises:
        UserError: a source that is not there or has no image. Files that are skipped are named in a warning.

    Example:
        `predict(load_model("runs/pilot"), ["images", "more.csv"])`
    """
    from client_app.clinic.predict import find_images
    from client_app.clinic.predict import predict as answers

    sources = [images] if isinstance(images, str | Path) else images
    table = []
    listed = find_images([Path(source) for source in sources], lambda line: warnings.warn(line, stacklevel=3))
    for answer in answers(model, listed, batch, model.thresholds):
        row: dict[str, Any] = {"image": answer.image, "predicted": "|".join(answer.labels)}
        values = [None] * len(model.classes) if answer.probabilities is None else answer.probabilities.tolist()
        table.append(row | {f"p:{c}": p for c, p in zip(model.classes, values, strict=True)} | {"error": answer.error})
    return table
