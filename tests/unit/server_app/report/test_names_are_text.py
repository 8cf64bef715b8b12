"""Whatever sites, classes and variants are called: card, tables and pages are built as with plain names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_multilabel_run import made_up_analysis, write_multilabel_run
from made_up_run import Page, dump, write_run
from markdown_it import MarkdownIt

from common.config import Experiment
from common.errors import one_line
from common.models.trained import load_trained
from server_app.compare.tables import as_markdown
from server_app.engines.engines import run_local
from server_app.generic.model_card import model_card
from server_app.report import write_report

Tiny = Callable[..., Experiment]
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
EVIL = (
    "a|b", "`c` ```", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://e.vil/p.png)",
    "a\n\n# b\n| c", "*a* __b__", "</title></style><img src=x onerror=alert(1)>", "\" onload='alert(1)",
    "&lt;\x1b[31m\ud800",
)  # fmt: skip
LONE = "\n```\n<b>\n"


def plain_names(names: tuple[str, ...]) -> list[str]:
    """Return as many letters in the place of each name."""
    return [chr(97 + i) * len(name) for i, name in enumerate(names)]


def renamed(folder: Path, names: list[str]) -> None:
    """Give a run's first sites, and its classes, other names."""
    federation = json.loads((folder / "federation.json").read_text())
    sites = dict(zip(federation["site_names"], names, strict=False))
    federation |= {"classes": names, "site_names": [sites.get(name, name) for name in federation["site_names"]]}
    dump(folder, federation=federation)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    dump(folder, sites={name: {"num_train": 3, "num_test": 2} for name in sites.values()})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(_renamed(json.loads(x), sites)) + "\n" for x in lines))


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def card_of(folder: Path, names: list[str]) -> list[Any]:
    model = load_trained(folder)
    model.about = model.about.model_copy(update={"classes": tuple(names)})
    renamed(folder, names)
    experiment = {**model.experiment.dump(), "classes": [*names, names[1] + LONE]}
    return PARSER.parse(model_card(folder, model, experiment, f"left out: {names[3]}"))


def test_a_model_card_shows_any_name_as_it_is(tiny: Tiny) -> None:
    before, after = run_local(tiny(rounds=1, run_name="a")), run_local(tiny(rounds=1, run_name="b"))
    expected, found = card_of(before, plain_names(EVIL)), card_of(after, list(EVIL))
    assert [(t.type, t.level) for t in found] == [(t.type, t.level) for t in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [c.type for c in ours.children or ()] == [c.type for c in theirs.children or ()], ours.content
    cells = {"".join(c.content for c in t.children or ()) for t in found if t.type == "inline"}
    for name in EVIL:
        assert " ".join(one_line(name).split()) in {" ".join(cell.split()) for cell in cells}, name


def test_a_comparisons_table_shows_any_name_as_it_is() -> None:
    rows = [{"method": f"FedAvg, {name}", "GM": "1.0 ± 0.5"} for name in EVIL]
    tokens = [t for t in PARSER.parse(as_markdown(rows)) if t.type == "inline"]
    assert len(tokens) == 2 + 2 * len(EVIL)
    for name, token in zip(EVIL, tokens[2::2], strict=True):
        assert [c.type for c in token.children or ()] == ["text"]
        assert (token.children or ())[0].content.split() == one_line(f"FedAvg, {name}").split()


@pytest.mark.parametrize("several", [False, True])
def test_a_report_is_built_as_with_plain_names(tmp_path: Path, several: bool) -> None:
    pages = []
    for folder, names in ((tmp_path / "a", plain_names(EVIL)), (tmp_path / "b", list(EVIL))):
        folder.mkdir()
        (write_multilabel_run if several else write_run)(folder, **{"report-images": True, "run-name": "run"})
        renamed(folder, names)
        with (folder / "metrics.jsonl").open("a") as file:
            rejected = {"event": "rejected", "round": 1, "site": names[2], "reason": names[3]}
            file.write(json.dumps(rejected) + "\n")
        if several:
            dump(folder, analysis=made_up_analysis(10, names))
        pages.append(Page(write_report(folder).read_text(encoding="utf-8")))
    expected, found = ([(tag, sorted(attrs)) for tag, attrs in page.tags] for page in pages)
    assert found == expected
    for name in EVIL:
        assert " ".join(one_line(name).split()) in " ".join(pages[1].text.split())
