"""Pages in a real browser: they open offline, whole and without a complaint, light and dark, narrow and printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from made_up_run import Page as Parsed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Text and what is behind it, as WCAG 2.1 has it (1.4.3): colours are blended over what lies below.
CONTRAST = """() => {
  const shade = color => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
  const light = color => color.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const opacity = (element, to) => {
    let all = 1;
    for (; element && element !== to; element = element.parentElement) all *= +getComputedStyle(element).opacity;
    return all;
  };
  const behind = element => {  // colours of backgrounds, the page's first
    const layers = [];
    for (; element; element = element.parentElement) layers.unshift(shade(getComputedStyle(element).backgroundColor));
    return layers;
  };
  const shapes = text => {  // filled ones below a chart's text, the lowest first
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement;
    const here = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return here.filter(e => e !== text && svg.contains(e) && e !== svg && e.tagName !== 'text' && e.tagName !== 'g')
      .filter(e => getComputedStyle(e).fill !== 'none').reverse().map(e => {
        const style = getComputedStyle(e), [r, g, b, a] = shade(style.fill);
        return [r, g, b, a * style.fillOpacity * opacity(e, svg)];
      });
  };
  const texts = [...document.querySelectorAll('body *')].filter(e => e.checkVisibility({visibilityProperty: true}))
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .filter(e => !['title', 'style', 'desc'].includes(e.tagName));
  return texts.map(e => {
    const style = getComputedStyle(e), inChart = e.ownerSVGElement;
    const layers = inChart ? [...behind(inChart), ...shapes(e)] : behind(e);
    const below = layers.reduce((color, layer) => over(layer, color), [255, 255, 255]);
    const [r, g, b, a] = shade(inChart ? style.fill : style.color);
    const text = over([r, g, b, a * opacity(e)], below);
    const [dark, bright] = [light(below), light(text)].sort((a, b) => a - b);
    return {ratio: (bright + .05) / (dark + .05), tag: e.tagName, words: e.textContent.trim().slice(0, 40)};
  });
}"""


@contextmanager
def opened(
    chromium: "Browser", file: Path, width: int = 1000, scheme: Literal["light", "dark"] = "light"
) -> "Iterator[tuple[Page, list[str]]]":
    """Open a page from its file; yield it, and what it complains of or asks for beside itself."""
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
    page, noticed = context.new_page(), []
    page.on("console", lambda said: noticed.append(f"{said.type}: {said.text}") if said.type != "log" else None)
    page.on("pageerror", lambda error: noticed.append(f"error: {error}"))
    page.on("request", lambda asked: noticed.append(asked.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    yield page, [line for line in noticed if line != file.as_uri() and not line.startswith("data:")]
    context.close()


def unfold(page: "Page") -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")


def test_it_opens_whole_and_asks_for_nothing(chromium: "Browser", file: Path) -> None:
    headings = Parsed(file.read_text(encoding="utf-8")).headings
    with opened(chromium, file) as (page, noticed):
        assert noticed == []
        shown = page.locator("section > h2")
        assert shown.all_inner_texts() == headings and len(headings) > 6
        assert all(heading.is_visible() for heading in shown.all())
        unfold(page)
        assert page.locator("section svg[role=img]").count() > 4
        for chart in page.locator("section svg[role=img]").all():
            box = chart.bounding_box()
            assert box is not None and box["width"] > 300 and box["height"] > 60
        pictures = page.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
        assert all(pictures) and bool(pictures) is ("photographs" in page.inner_text("body").lower())


def test_each_entry_of_the_list_of_sections_leads_to_its_section(chromium: "Browser", file: Path) -> None:
    with opened(chromium, file) as (page, _):
        links = page.locator("nav a").all()
        assert links
        for link in links:
            link.click()
            target = page.locator(str(link.get_attribute("href")))
            box = target.locator("h2").bounding_box()
            assert target.locator("h2").inner_text().endswith(f". {link.inner_text()}")
            assert box is not None and -60 < box["y"] < 900


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(
    chromium: "Browser", file: Path, scheme: Literal["light", "dark"]
) -> None:
    with opened(chromium, file, scheme=scheme) as (page, _):
        unfold(page)
        page.set_viewport_size({"width": 1000, "height": page.evaluate("document.documentElement.scrollHeight")})
        texts: list[dict[str, Any]] = page.evaluate(CONTRAST)
        assert {"P", "TD", "TH", "SPAN", "text", "FIGCAPTION", "A", "H2"} <= {each["tag"] for each in texts}
        assert [each for each in texts if each["ratio"] < 4.5] == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is (scheme == "light")


def test_a_narrow_window_scrolls_nothing_sideways_but_tables_and_charts(chromium: "Browser", file: Path) -> None:
    with opened(chromium, file, width=400) as (page, _):
        unfold(page)
        wide = """() => [...document.querySelectorAll('body *')]
          .filter(e => !e.closest('.scroll > *') && e.getBoundingClientRect().right > innerWidth + .5)
          .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
        assert page.evaluate(wide) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_narrow_window_shows_the_names_of_curves_without_scrolling(chromium: "Browser", file: Path) -> None:
    """A wide one has them in the charts, beside the curves."""
    with opened(chromium, file, width=400) as (page, _):
        unfold(page)
        for chart in page.locator("figure").filter(has=page.locator(".key")).all():
            entries = chart.locator(".key li")
            assert {" ".join(words.split()) for words in entries.all_inner_texts()} == {
                " ".join(words.split()) for words in entries.all_text_contents()
            }
            boxes = [entry.bounding_box() for entry in entries.all()]
            assert boxes and all(box and box["x"] >= 0 and box["x"] + box["width"] <= 400 for box in boxes)
            assert entries.locator("path").evaluate_all("all => all.every(e => e.getBoundingClientRect().width > 4)")
        page.set_viewport_size({"width": 1000, "height": 900})
        assert not any(key.is_visible() for key in page.locator(".key").all())


def test_it_prints(chromium: "Browser", file: Path) -> None:
    with opened(chromium, file) as (page, _):
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF") and len(printed) > 20_000


def test_folds_open_by_keyboard(chromium: "Browser", file: Path) -> None:
    with opened(chromium, file) as (page, _):
        for fold in page.locator("details").all():
            fold.locator("> summary").focus()
            page.keyboard.press("Enter")
            assert fold.evaluate("each => each.open")


def test_what_is_pointed_at_stands_out(chromium: "Browser", file: Path) -> None:
    """A chart of a comparison has more curves than bands could be told apart."""
    with opened(chromium, file) as (page, _):
        curves = page.locator("svg[role=img]").filter(has=page.locator(".series")).first
        first, second = curves.locator(".series").nth(0), curves.locator(".series").nth(1)
        bands = curves.locator(".pointed")
        hidden = bands.evaluate_all("all => all.map(each => getComputedStyle(each).visibility)")
        assert set(hidden) <= {"hidden"} and bool(hidden) is (file.name == "results.html")
        first.locator("text").last.hover()
        assert second.evaluate("each => getComputedStyle(each).opacity") == "0.15"
        if hidden:
            assert first.locator(".pointed").evaluate("each => getComputedStyle(each).visibility") == "visible"
