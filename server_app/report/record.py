"""Reading a run's folder: whatever is missing, cut short or not a number becomes `None` or empty."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from common.config import portable
from common.methods import METHODS, Method
from server_app.run.events import parse_lines

Event: TypeAlias = dict[str, Any]
T = TypeVar("T")
D = TypeVar("D")
GROUPS = ("many", "medium", "few")
_LARGEST = 1e100  # far above any metric or count; the span of an axis must be finite
_PLACE = re.compile(r"(?:^|[\s'\"(\[=:])(?:~?/+[^\s/]|[A-Za-z]:\\)")  # where an absolute path begins


def number(value: object) -> float | None:
    """Return a float that a chart can hold, or None for anything else (null, NaN, text, absent, 10³⁰⁰)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        return None
    return float(value)


def numbers(values: object) -> list[float | None]:
    """Return the list's entries as finite floats or None; an empty list if it is no list."""
    return [number(value) for value in values] if isinstance(values, list) else []


@dataclass(frozen=True)
class RunRecord:
    """What a run left in its folder.

    Attributes:
        name: the run's.
        config: the resolved experiment under its hyphenated keys, without those that name a folder of the machine.
        versions: package name to version.
        frame: quality of the fixed frame; empty if the method has none.
        federation: classes, site names, counts and class groups.
        events: the lines of metrics.jsonl; of two with the same key (a resumed run repeats rounds) the later.
        problems: what could not be read, in words.
        analysis: what the coordinator found out at the end of a run of several labels, see `multilabel_analysis`.
    """

    name: str
    config: dict[str, Any]
    versions: dict[str, Any]
    frame: dict[str, Any]
    federation: dict[str, Any]
    events: tuple[Event, ...]
    problems: tuple[str, ...] = ()
    analysis: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str, **keys: str) -> list[Event]:
        """Return the events of one kind whose fields equal `keys`, by round."""
        found = [e for e in self.events if e.get("event") == kind and all(e.get(k) == v for k, v in keys.items())]
        return sorted(found, key=round_of)

    def generic(self, head: str) -> Event | None:
        """Return the last metrics of a generic head: the final ones, else the last evaluation's."""
        events = self.of("generic", head=head, stage="final") or self.of("generic", head=head)
        return events[-1] if events else None

    def confusion(self, head: str) -> dict[tuple[int, int], int]:
        """Return a generic head's confusion matrix [C, C] on the coordinator's test images, at the end of the run.

        (true class, predicted class) → images, of the pairs that have any: `.get((true, predicted), 0)`. A class's
        images over all predictions are its test images. Empty where images have several labels, the run has not come
        to its end, or training diverged.
        """
        events = self.of("generic", head=head, stage="final")
        rows = events[-1].get("confusion", []) if events else []
        return {(row[0], row[1]): row[2] for row in rows if len(row) == 3}

    def personal(self, stage: str) -> Event | None:
        """Return the last personal metrics of a stage."""
        events = self.of("personal", stage=stage)
        return events[-1] if events else None

    def site_class_accuracy(self, stage: str) -> dict[str, list[float | None]]:
        """Return site → metric of its personal model in each class [C] on the site's own test images, by stage.

        Args:
            stage: 'final', 'realigned' or 'finetuned'.

        Returns:
            The share of a class's images that were right; of several labels the class's AUC. None where the site has
            no test image of the class, or fewer than its rule reports. Simulated sites all have it; real ones that do
            not let it out are absent.
        """
        found = (self.personal(stage) or {}).get("per_class", {})
        return {site: numbers(values) for site, values in sorted(found.items())}

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.of("summary"))

    @property
    def method(self) -> Method | None:
        """The method's row, or None where this version does not know it."""
        return METHODS.get(str(self.config.get("method")))

    @property
    def sites_own_tests(self) -> bool:
        """Whether the data set itself says which test images are a site's, so that all of them are the test set."""
        images = sum(map(sum, self.test_counts))
        return self.config.get("partition") == "natural" and 0 < images == self.federation.get("num_test")

    @property
    def on_validation(self) -> bool:
        """Whether the metrics are of held-out training images instead of test images."""
        return self.config.get("evaluate-on") == "validation"

    @property
    def multilabel(self) -> bool:
        """Whether an image may carry several labels."""
        return self.federation.get("multilabel") is True or any(e.get("figure") == "macro_auc" for e in self.events)

    @property
    def uses_attention(self) -> bool:
        """Whether label-aware attention gives one feature a class."""
        asked = self.config.get("attention")
        return asked if isinstance(asked, bool) else self.method is not None and self.method.uses_attention

    @property
    def shows_images(self) -> bool:
        """Whether the run was asked to show test images."""
        return self.config.get("report-images") is True

    @property
    def frame_trains(self) -> bool:
        """Whether the class vectors start as the frame and learn."""
        return self.config.get("frame-trains") is True

    @property
    def simulated(self) -> bool:
        """Whether the sites' label distributions are known because the sites are simulated."""
        return self.federation.get("simulated") is True

    @cached_property
    def heads(self) -> list[str]:
        """Generic heads that were evaluated: the known ones first, in the order of the tables."""
        seen = dict.fromkeys(str(e.get("head")) for e in self.of("generic"))
        if self.uses_attention and self.method is not None and not self.method.frame:
            seen.pop("frame", None)  # it asks the attention and classifies nothing
        known = [head for head in ("aux_head", "aux_head_realigned", "retrained_head", "frame") if head in seen]
        return known + [head for head in seen if head not in known]

    @cached_property
    def classes(self) -> list[str]:
        """Class names [C]; numbered where the folder does not name them."""
        names = self.federation.get("classes")
        if isinstance(names, list) and names:
            return [str(name) for name in names]
        lengths = [len(e["per_class"]) for e in self.of("generic") if isinstance(e.get("per_class"), list)]
        return [f"class {c}" for c in range(max(lengths, default=0))]

    @cached_property
    def train_counts(self) -> list[list[float]]:
        """Training images [K, C], or empty where sites do not disclose them."""
        return self._counts("train_counts") if self.simulated else []

    @cached_property
    def test_counts(self) -> list[list[float]]:
        """Test images [K, C], or empty where sites do not disclose them."""
        return self._counts("test_counts") if self.simulated else []

    @cached_property
    def majority_shares(self) -> dict[str, float]:
        """Site → share of its test images that are of its most frequent class, which always answering with it gets
        right; empty where sites do not disclose it or an image has several labels."""
        rows = [] if self.multilabel else self.test_counts
        return {
            site: max(row) / images for site, row in zip(self.site_names, rows, strict=False) if (images := sum(row))
        }

    @cached_property
    def class_counts(self) -> list[float]:
        """Training images of each class over all sites [C], or empty if unknown."""
        given = numbers(self.federation.get("class_counts"))
        return [n or 0.0 for n in given] or [sum(column) for column in zip(*self.train_counts, strict=False)]

    @cached_property
    def site_names(self) -> list[str]:
        """Names of the sites [K]: the federation's, else those that reported."""
        names = self.federation.get("site_names")
        if isinstance(names, list) and names:
            return [str(name) for name in names]
        return sorted({site for e in self.of("personal") for site in sites_of(e)})

    @cached_property
    def group_of(self) -> dict[int, str]:
        """Class index to 'many', 'medium' or 'few'."""
        groups = self.federation.get("groups")
        groups = groups if isinstance(groups, dict) else {}
        return {int(c): name for name in GROUPS for c in numbers(groups.get(name)) if c is not None}

    @cached_property
    def class_order(self) -> list[int]:
        """Class indices from most to fewest training images; as numbered if counts are unknown."""
        counts = self.class_counts

        def key(c: int) -> tuple[float, int, int]:
            group = GROUPS.index(self.group_of[c]) if c in self.group_of else len(GROUPS)
            return (-at(counts, c, 0.0), group, c)

        return sorted(range(len(self.classes)), key=key)

    def _counts(self, key: str) -> list[list[float]]:
        rows = self.federation.get(key)
        return [[n or 0.0 for n in numbers(row)] for row in rows] if isinstance(rows, list) else []


def read_run(run_dir: Path) -> RunRecord:
    """Read a run's folder; what is missing or broken is left empty and named in `problems`."""
    problems: list[str] = []
    files = {
        name: _read_json(run_dir / f"{name}.json", problems) for name in ("config", "versions", "frame", "federation")
    }
    events = _read_lines(run_dir / "metrics.jsonl", problems)
    analysis = _read_json(run_dir / "analysis.json", problems)
    name, files["config"] = _name(run_dir, files["config"]), portable(files["config"])
    return RunRecord(name, **files, events=events, problems=tuple(problems), analysis=analysis)


def reason_of(event: Event) -> str:
    """Return why a reply was left out, without the places on this machine that an error may name."""
    reason = str(event.get("reason", ""))
    return (
        "it names a file of the machine; the journal, metrics.jsonl, has the reason"
        if _PLACE.search(reason)
        else reason
    )


def _name(run_dir: Path, config: Mapping[str, Any]) -> str:
    """Return the name that a person, or the run itself, gave it; not one that its folder was given later."""
    if config.get("run-name"):
        return str(config["run-name"])
    if not {"name", "method", "seed"} <= config.keys():
        return "A run"
    stem, folder = f"{config['name']}-{config['method']}-seed{config['seed']}", run_dir.resolve().name
    return folder if re.fullmatch(re.escape(stem) + r"-\d{8}-\d{6}(-\d+)?", folder) else stem


def round_of(event: Event) -> int:
    """Return an event's round; 0 if it has none."""
    return int(number(event.get("round")) or 0)


def sites_of(event: Event | None) -> dict[str, Event]:
    """Return a personal event's metrics by site name."""
    sites = (event or {}).get("sites")
    return {str(k): v for k, v in sites.items() if isinstance(v, dict)} if isinstance(sites, dict) else {}


def at(values: Sequence[T], index: int, default: D) -> T | D:
    """Return `values[index]`, or the default where there is no such entry."""
    return values[index] if index < len(values) else default


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        if path.name not in ("frame.json", "analysis.json"):  # not every run writes one
            problems.append(f"{path.name} is missing")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        problems.append(f"{path.name} is not readable")
        return {}
    return value


def _read_lines(path: Path, problems: list[str]) -> tuple[Event, ...]:
    if not path.is_file():
        problems.append(f"{path.name} is missing")
        return ()
    lines = parse_lines(path.read_text(encoding="utf-8", errors="replace"))
    if lines.problems or lines.unfinished:
        problems.append(str(lines) if lines.problems else f"1 line(s) of {path.name}, the last, is half a line")
    keys = ("event", "round", "stage", "head", "site", "what")
    kept = {tuple(str(event.get(key)) for key in keys): event for event in lines.events}
    return tuple(kept.values())
