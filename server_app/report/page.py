"""The page around the sections: layout, style sheet, and helpers that escape whatever they are given."""

from collections.abc import Sequence

from common.markup import escape_html as escape
from server_app.report.record import number

DASH = "–"

# Okabe and Ito's colour-blind-safe palette; the shades for a dark page are lightened.
_CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#5a6475;--rule:#d8dde5;--panel:#f5f7fa;--shade:#0003;
--s0:#0072b2;--s1:#d55e00;--s2:#00805f;--s3:#a0528a;--s4:#b07a00;--s5:#2b8cbe;--s6:#333b49;--s7:#8a5a2b}
@media(prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e6eaf0;--soft:#a3adbb;--rule:#353d4a;--panel:#1d232d;--shade:#fff4;
--s0:#56b4e9;--s1:#f28c48;--s2:#2bc79b;--s3:#dd9bc5;--s4:#f0b93a;--s5:#9fd3f5;--s6:#cfd6e0;--s7:#c99a6b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:980px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.7rem;margin:0 0 4px;line-height:1.2;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:44px 0 8px;padding-top:10px;border-top:1px solid var(--rule)}
h3{font-size:1.02rem;margin:24px 0 6px}
p{margin:8px 0;max-width:76ch}
.lead{color:var(--soft)}
nav ol{margin:14px 0;padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.9rem}
a{color:var(--s0)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:18px 0;padding:0;
list-style:none}
.tiles li{background:var(--panel);border-radius:8px;padding:12px 14px}
.tiles b{display:block;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles span{font-size:.85rem;color:var(--soft);display:block}
.scroll{overflow-x:auto;margin:10px 0;background:linear-gradient(90deg,var(--bg) 40%,transparent) 0/40px 100%
no-repeat local,linear-gradient(270deg,var(--bg) 40%,transparent) 100%/40px 100% no-repeat local,
linear-gradient(90deg,var(--shade),transparent) 0/14px 100% no-repeat scroll,
linear-gradient(270deg,var(--shade),transparent) 100%/14px 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:4px 0 6px}
caption span{display:inline-block;position:sticky;left:0;max-width:calc(100vw - 40px)}
th,td{padding:4px 12px 4px 0;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{color:var(--soft);font-weight:600;border-bottom:2px solid var(--rule);vertical-align:bottom}
th+td,td+td,thead th+th{padding-left:8px}
td.num,th.num{text-align:right}td.num,tbody th{white-space:nowrap}
tbody th{font-weight:400}
.dense{font-size:.8rem}.dense th,.dense td{padding-right:6px}.dense th+td,.dense td+td,.dense th+th{padding-left:6px}
td.code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.85rem;overflow-wrap:anywhere;min-width:16ch}
.note{border-left:4px solid var(--s4);background:var(--panel);padding:8px 14px;margin:12px 0;max-width:80ch}
dl{margin:8px 0;max-width:80ch}dt{font-weight:600;margin-top:8px}dd{margin:0}
details{margin:10px 0}summary{cursor:pointer;color:var(--s0)}
figure{margin:14px 0 20px}figcaption{font-size:.9rem;color:var(--soft);max-width:80ch;margin-top:4px}
figure svg{display:block;width:100%;height:auto}
.legend{list-style:none;margin:6px 0;padding:0;display:flex;flex-wrap:wrap;gap:2px 18px;font-size:.88rem}
.legend li{display:flex;align-items:center;gap:6px}
.legend svg{width:14px;height:14px;min-width:14px}
svg text{font-size:12px;fill:var(--fg);font-family:inherit}
svg .name{fill:var(--soft);font-weight:600}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.leader{stroke:var(--soft);stroke-width:.7;opacity:.6}
.cut{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}
.stem{stroke:var(--soft);stroke-width:1;opacity:.55}
.curve{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}
.mean{stroke:currentColor;stroke-width:3}
.dot{fill:currentColor;stroke:var(--bg);stroke-width:.7}
.open{fill:none;pointer-events:all;stroke:currentColor;stroke-width:1.6}
.hit{opacity:0}.hit:hover{opacity:1}
svg:has(.series:hover) .series:not(:hover){opacity:.15}.series:hover .curve{stroke-width:3.5}
.ring{fill:var(--bg);stroke:currentColor;stroke-width:2}
.bar{fill:var(--s0);fill-opacity:.75}.count{fill:var(--soft);fill-opacity:.6}
.notch{stroke:var(--s1);stroke-width:3}
.cell{fill:var(--s0)}.box{fill:none;stroke:var(--rule)}
svg .strong{fill:var(--bg)}svg .middling{fill:#14181f}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}
.s6{color:var(--s6)}.s7{color:var(--s7)}
@media print{body{max-width:none}figure,table{break-inside:avoid}}
"""

# The browser itself refuses whatever would leave the file.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], notice: str = "") -> str:
    """Return the HTML document.

    Args:
        title, lead: plain text.
        sections: (plain-text heading, HTML body) in the order of the page.
        notice: plain text that stands above all of them; '' for none.
    """
    links = "".join(f'<li><a href="#s{i}">{escape(name)}</a></li>' for i, (name, _) in enumerate(sections, 1))
    bodies = "".join(
        f'<section id="s{i}" aria-labelledby="h{i}"><h2 id="h{i}">{i}. {escape(name)}</h2>{body}</section>\n'
        for i, (name, body) in enumerate(sections, 1)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width,initial-scale=1"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}"/>'
        f'<link rel="icon" href="data:,"/><title>{escape(title)}</title><style>{_CSS}</style></head>\n'
        f'<body><header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f"{note(notice) if notice else ''}"
        f'<nav aria-label="Sections"><ol>{links}</ol></nav></header>\n<main>{bodies}</main></body></html>\n'
    )


def paragraph(words: str) -> str:
    """Return plain text as a paragraph."""
    return f"<p>{escape(words)}</p>"


def note(words: str) -> str:
    """Return plain text as a marked remark."""
    return f'<p class="note" role="note">{escape(words)}</p>'


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], css: Sequence[str] = (), *, dense: bool = False
) -> str:
    """Return a table of plain-text cells; the first names the row, the others are numbers or css[i - 1]."""
    kinds = ["", *(css or ["num"] * (len(header) - 1))]
    head = "".join(f'<th scope="col" class="{k}">{escape(h)}</th>' for h, k in zip(header, kinds, strict=True))
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="{k}">{escape(cell)}</td>' for cell, k in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    inner = f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    opening = '<table class="dense">' if dense else "<table>"
    return f'<div class="scroll">{opening}{inner}</table></div>'


def tile_list(tiles: Sequence[tuple[str, str, str]]) -> str:
    """Return large numbers (plain text), each with two lines of words."""
    items = "".join(f"<li><b>{escape(a)}</b>{escape(b)}<span>{escape(c)}</span></li>" for a, b, c in tiles)
    return f'<ul class="tiles">{items}</ul>'


def figure(chart: str, caption: str) -> str:
    """Return a chart (HTML) with its caption (plain text); nothing if there is no chart."""
    if not chart:
        return ""
    return f'<figure><div class="scroll">{chart}</div><figcaption>{escape(caption)}</figcaption></figure>'


def details(summary: str, body: str) -> str:
    """Return HTML that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def terms(pairs: Sequence[tuple[str, str]]) -> str:
    """Return words with their meaning."""
    return "<dl>" + "".join(f"<dt>{escape(t)}</dt><dd>{escape(d)}</dd>" for t, d in pairs) + "</dl>"


def percent(value: object) -> str:
    """Return a share as per cent with one decimal, or a dash if unknown."""
    share = number(value)
    return DASH if share is None else f"{share * 100:.1f} %"


def plain(value: object, form: str = ",.6g") -> str:
    """Return a number in a format, or a dash if unknown."""
    known = number(value)
    return DASH if known is None else format(known, form)
