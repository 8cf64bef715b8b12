"""The report of a run of several labels an image: its words, its own sections, and whatever a run left behind."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_multilabel_run import made_up_analysis, multilabel_report, png, write_multilabel_run
from made_up_run import Page, dump, keep_events, report, report_with, write_run
from PIL import Image

from server_app.report.attention import attention, image_notice, overlay
from server_app.report.label_pairs import label_pairs
from server_app.report.page import Page as ReportPage
from server_app.report.prototypes import class_features
from server_app.report.record import read_run


def test_every_section_speaks_of_auc_and_none_of_accuracy(tmp_path: Path) -> None:
    html, page = multilabel_report(write_multilabel_run(tmp_path))
    words = " ".join([page.text, *page.tooltips, *(str(attrs.get("aria-label", "")) for _, attrs in page.tags)])
    assert "accuracy" not in words.lower()
    assert "data set: digits;" in page.text
    assert "81.2 %" in page.text  # macro AUC
    for name in ("mAP", "Macro F1 at 0.5", "Macro F1, tuned", "OF1 at 0.5", "Calibration error", "Classes without AUC"):
        assert page.text.count(name) >= 2, name  # generic, personal
    assert "6.2 %" in page.text  # calibration error
    for term in ("Macro AUC, micro AUC", "mAP", "Label-aware attention", "Classes without AUC (undefined)"):
        assert f"<dt>{term}</dt>" in html
    assert "Average precision, head ψ realigned" in page.text
    assert "Mean cosine between two different prototypes: −0.042" in page.text
    assert "The same without attention, of the whole image's feature: mean 0.987." in page.text


@pytest.mark.undrawn
def test_what_the_partition_achieved_stands_beside_what_was_asked(tmp_path: Path) -> None:
    _, page = multilabel_report(write_multilabel_run(tmp_path))
    assert "Classes that a site misses, mean over sites 30.0 % 34.0 %, from 30.0 % to 38.0 %" in page.text
    assert "Images that went to no site – 7.1 %" in page.text
    assert "Labels hidden at the sites – 16.5 %" in page.text
    assert "Classes at fewer than two sites – kind 1" in page.text
    assert "(label-rule): mask:" in page.text
    assert "Training labels" in page.text and "Most frequent class" not in page.text


def test_nothing_is_requested_from_outside_though_there_are_pictures(tmp_path: Path) -> None:
    html, page = multilabel_report(write_multilabel_run(tmp_path, **{"report-images": True}))
    assert "This page contains 6 of the test images of the data set 'digits'" in page.text.split("1. Results")[0]
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 12  # of six classes, the image and its overlay
    assert not {"script", "image", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for key in ("src", "href", "xlink:href"):
            assert (attrs.get(key) or "#").startswith(("#", "data:image/png;base64,", "data:,"))
    assert not re.search(r"@import|@font-face|url\((?!#)", html)
    for attrs in pictures:
        assert re.match("(attention on the )?test image of class kind", str(attrs["alt"]))
        data = base64.b64decode(str(attrs["src"]).split(",")[1])
        assert Image.open(io.BytesIO(data)).size[0] > 0


@pytest.mark.undrawn
@pytest.mark.parametrize("asked", [{}, {"report-images": False}])
def test_images_of_an_earlier_run_are_not_shown_unless_it_was_asked_for_them(tmp_path: Path, asked: Any) -> None:
    write_multilabel_run(tmp_path)
    config = {k: v for k, v in json.loads((tmp_path / "config.json").read_text()).items() if k != "report-images"}
    dump(tmp_path, config=config | asked)
    html, page = multilabel_report(tmp_path)
    assert "data:image" not in html and "<img" not in html and "This page contains" not in page.text
    assert "shown where the run is made with report-images=true, since they may be of patients" in page.text
    assert "analysis.json has 6 all the same: do not hand it on" in page.text


@pytest.mark.parametrize(("num_classes", "num_sites"), [(2, 1), (80, 40), (300, 90)])
def test_other_sizes(tmp_path: Path, num_classes: int, num_sites: int) -> None:
    html, page = multilabel_report(write_multilabel_run(tmp_path, num_classes, num_sites, rounds=3))
    assert len(html) < 6_000_000
    assert ("Shown are 40 of the" in page.text) == (num_classes > 40)


def test_a_method_without_attention_has_no_overlays_and_one_feature_an_image(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path, method="fedavg")
    (tmp_path / "frame.json").unlink()
    dump(tmp_path, analysis={**made_up_analysis(10, ["site-00"]), "attention": []})
    _, page = multilabel_report(tmp_path, "Frame geometry")
    assert "report-images" not in page.text.split("Configuration Key")[0]
    assert "the feature of the whole image" in page.text
    assert not [words for words in ("GA-FR", "LA-FR", "Fixed frame W", "Label-aware") if words in page.text]


def test_a_frame_that_only_asks_is_no_head(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path, method="fedavg", attention=True)
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.writelines(
            json.dumps(json.loads(line) | {"head": "frame"}) + "\n"
            for line in path.read_text().splitlines()
            if '"generic"' in line
        )
    _, page = multilabel_report(tmp_path)
    assert "fixed frame W" not in page.text
    assert "It also asks the attention" in page.text


@pytest.mark.undrawn
def test_composites_are_called_so(tmp_path: Path) -> None:
    _, page = multilabel_report(write_multilabel_run(tmp_path, composites=90))
    assert "data set: digits composites;" in page.text


def test_class_vectors_that_learn_are_not_called_fixed(tmp_path: Path) -> None:
    _, page = multilabel_report(write_multilabel_run(tmp_path, method="fednca_ml", **{"frame-trains": True}))
    assert "trained class vectors W" in page.text
    assert "fixed frame W" not in page.text


def test_without_common_batchnorm_there_are_no_features(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path, method="fedbn")
    dump(tmp_path, analysis={})
    _, page = multilabel_report(tmp_path, "Class features", "AUC by class", "AUC against class counts")
    assert "report-images" not in page.text.split("Configuration Key")[0]


@pytest.mark.undrawn
def test_a_run_without_its_analysis_says_so(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path, **{"report-images": True})
    (tmp_path / "analysis.json").unlink()
    _, page = multilabel_report(tmp_path)
    for words in ("No features were", "No attention was", "No labels that occur together were"):
        assert f"{words} recorded." in page.text
    assert "incomplete" not in page.text


def test_a_run_that_stopped_before_its_first_round_has_no_empty_sections(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path, **{"report-images": True})
    (tmp_path / "analysis.json").unlink()
    (tmp_path / "metrics.jsonl").write_text('{"event": "begin", "round": 0}\n')
    _, page = report_with(tmp_path, ("Results", "Frame geometry", "Sites", "Configuration and cost"))
    assert "recorded" not in page.text


def test_a_run_that_stopped_reports_its_last_evaluation(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path)
    (tmp_path / "analysis.json").unlink()
    keep_events(tmp_path, lambda e: e.get("round", 99) <= 5 and e.get("stage") != "final")
    _, page = multilabel_report(tmp_path, "Class features", "Labels that occur together", "Head norms")
    assert "reached round 5 of 12" in page.text and "last evaluation" in page.text


def test_sites_that_do_not_disclose_their_labels(tmp_path: Path) -> None:
    write_multilabel_run(tmp_path)
    federation = json.loads((tmp_path / "federation.json").read_text())
    dump(tmp_path, federation={**federation, "simulated": False})
    _, page = multilabel_report(tmp_path, "Labels that occur together", "AUC against class counts")
    assert "only because this is a simulation" not in page.text
    assert "Labels hidden" not in page.text


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=settings.default.max_examples // 3)  # each draws a page
@given(st.data())
def test_whatever_a_broken_analysis_holds_the_report_survives(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = write_multilabel_run(tmp_path_factory.mktemp("run"), 4, 2, rounds=1, **{"report-images": True})
    analysis = made_up_analysis(4, ["site-00", "site-01"])
    name = data.draw(st.sampled_from(sorted(analysis)))
    if name == "attention":
        key = data.draw(st.sampled_from(sorted(analysis[name][0])))
        analysis[name][0][key] = data.draw(_ODD)
    else:
        key = data.draw(st.sampled_from(sorted(analysis[name])))
        analysis[name][key] = data.draw(_ODD)
    dump(folder, analysis=analysis)
    run = read_run(folder)
    parts = [(section.__name__, section(run)) for section in (class_features, attention, label_pairs)]
    Page(ReportPage("run", "", parts, image_notice(run)).html())


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    write_multilabel_run(tmp_path, **{"report-images": True})
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["classes"][0] = federation["site_names"][0] = evil
    analysis = made_up_analysis(10, [evil])
    analysis["attention"][1]["image"] = evil
    dump(tmp_path, federation=federation, analysis=analysis)
    html, _ = multilabel_report(tmp_path)
    assert "<script" not in html


def test_a_report_of_one_label_knows_nothing_of_several(tmp_path: Path) -> None:
    before, page = report(write_run(tmp_path))
    dump(tmp_path, analysis=made_up_analysis(10, ["site-00"]))
    federation = json.loads((tmp_path / "federation.json").read_text())
    dump(tmp_path, federation={**federation, "multilabel": False, "partition": None})
    after, _ = report(tmp_path)
    assert before == after
    assert not re.search(r"AUC|mAP|F1|attention|Several", page.text.split("Configuration Key")[0])


def test_even_attention_leaves_the_picture_grey_and_a_peak_colours_its_place() -> None:
    image = Image.new("RGB", (16, 16), (90, 90, 90))
    even = np.asarray(overlay(image, np.full((2, 2), 0.25)))
    assert (even == 90).all()
    peak = np.asarray(overlay(image, np.array([[0.7, 0.1], [0.1, 0.1]]))).astype(int)
    redness = peak[..., 0] - peak[..., 2]
    assert redness[0, 0] > 150 and redness[-1, -1] == 0
    assert redness[0, 0] == redness.max()


def test_a_picture_that_is_not_square_keeps_its_shape() -> None:
    image = Image.open(io.BytesIO(base64.b64decode(png(9, 12))))
    wide, high = overlay(image, np.ones((3, 4)) / 12).size
    assert wide / high == 9 / 12
