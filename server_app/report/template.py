"""The page around the blocks, as Jinja templates and a style sheet.

They are Python since Flower packs no other kind of file into an app that would do.
"""

PAGE = """\
{% import "blocks" as blocks -%}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta name="viewport" content="width=device-width,initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<link rel="icon" href="data:,"/><title>{{ title|line }}</title>
<style>{% include "style" %}</style></head>
<body><header><h1>{{ title|line }}</h1><p class="lead">{{ lead|line }}</p>
{%- if notice %}<p class="note" role="note">{{ notice|line }}</p>{% endif %}
<nav aria-label="Sections"><ol>
{%- for name, _ in sections %}<li><a href="#s{{ loop.index }}">{{ name|line }}</a></li>{% endfor -%}
</ol></nav></header>
<main>
{%- for name, body in sections %}
<section id="s{{ loop.index }}" aria-labelledby="h{{ loop.index }}">
<h2 id="h{{ loop.index }}">{{ loop.index }}. {{ name|line }}</h2>
{{ blocks.all(body) }}</section>
{%- endfor %}
</main></body></html>
"""

# one macro a kind of block, see blocks.py
BLOCKS = """\
{% macro paragraph(block) %}<p>{{ block.words|line }}</p>{% endmacro %}
{% macro note(block) %}<p class="note" role="note">{{ block.words|line }}</p>{% endmacro %}
{% macro heading(block) %}<h3>{{ block.words|line }}</h3>{% endmacro %}
{% macro table(block) -%}
<div class="scroll"><table{% if block.dense %} class="dense"{% endif %}>
<caption><span>{{ block.caption|line }}</span></caption><thead><tr>
{%- for name in block.header -%}
<th scope="col" class="{{ block.classes[loop.index0] }}">{{ name|line }}</th>{% endfor -%}
</tr></thead><tbody>
{%- for row in block.rows %}
<tr><th scope="row">{{ row[0]|line }}</th>
{%- for cell in row[1:] %}<td class="{{ block.classes[loop.index] }}">{{ cell|line }}</td>{% endfor %}</tr>
{%- endfor %}</tbody></table></div>
{%- endmacro %}
{% macro tiles(block) -%}
<ul class="tiles">
{%- for tile in block.tiles -%}
<li><b>{{ tile.number|line }}</b>{{ tile.name|line }}<span>{{ tile.more|line }}</span></li>
{%- endfor %}</ul>
{%- endmacro %}
{% macro figure(block) -%}
<figure>
{%- if block.chart.key %}<ul class="key" aria-label="Names in the chart">
{%- for key in block.chart.key %}
<li><svg viewBox="-4 -4 8 8" aria-hidden="true">
{%- set fill = variables[key.colour] %}<path d="{{ shapes[key.marker] }}" fill="{{ fill }}"/></svg>
{{ key.words|line }}</li>{% endfor %}</ul>{% endif -%}
<div class="scroll">{{ block.chart|svg }}</div><figcaption>{{ block.caption|line }}</figcaption></figure>
{%- endmacro %}
{% macro pictures(block) -%}
<figure><div class="pictures">
{%- for group in block.groups %}
<div><p><b>{{ group.title|line }}</b><span>{{ group.aside|line }}</span></p>
{%- for picture in group.pictures %}
<img src="data:image/png;base64,{{ picture.data }}" alt="{{ picture.label|line }}" title="{{ picture.label|line }}"
{%- if picture.crisp %} class="crisp"{% endif %}/>{% endfor %}
<p>{{ group.words|line }}</p></div>
{%- endfor %}</div><figcaption>{{ block.caption|line }}</figcaption></figure>
{%- endmacro %}
{% macro terms(block) -%}
<dl>{% for term, meaning in block.pairs %}<dt>{{ term|line }}</dt><dd>{{ meaning|line }}</dd>{% endfor %}</dl>
{%- endmacro %}
{% macro details(block) -%}
<details><summary>{{ block.summary|line }}</summary>{{ all(block.body) }}</details>
{%- endmacro %}
{% set macros = {"paragraph": paragraph, "note": note, "heading": heading, "table": table, "tiles": tiles,
                 "figure": figure, "pictures": pictures, "terms": terms, "details": details} %}
{% macro all(blocks) %}{% for block in blocks %}{{ macros[block.kind](block) }}
{% endfor %}{% endmacro %}
"""

STYLE = """\
:root{color-scheme:light dark;--shade:#0003
{%- for name, (light, _) in colours.items() %};--{{ name }}:{{ light }}{% endfor %}}
@media(prefers-color-scheme:dark){:root{--shade:#fff4
{%- for name, (_, dark) in colours.items() %};--{{ name }}:{{ dark }}{% endfor %}}}
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
.key{display:none;margin:0;padding:0;list-style:none;font-size:.85rem;flex-wrap:wrap;gap:2px 16px}
figure .key svg{display:inline-block;width:.8em;height:.8em}
figure svg *{stroke-linejoin:round;stroke-linecap:butt}
figure svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif!important}
svg:has(.series:hover) .series:not(:hover){opacity:.15}
.pointed{visibility:hidden;pointer-events:none}.series:hover .pointed{visibility:visible}
@media screen and (max-width:800px){.key{display:flex}}
.pictures{display:flex;flex-wrap:wrap;gap:18px 34px;font-size:.85rem}
.pictures div{display:grid;grid-template-columns:128px 128px;gap:2px 6px}
.pictures p{grid-column:span 2;margin:0;display:flex;justify-content:space-between;overflow-wrap:anywhere}
.pictures img{width:128px;height:128px;object-fit:contain;object-position:left;display:block}
.crisp{image-rendering:pixelated}
@media print{body{max-width:none}figure,table{break-inside:avoid}.scroll{overflow:visible;background:none}
figure svg{min-width:0!important}table{font-size:.7rem}th,td{padding-right:6px;overflow-wrap:anywhere}}
"""
