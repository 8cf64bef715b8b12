"""The charts of reports and comparisons, drawn by matplotlib: inline SVG for the page, files for a paper or a talk."""

from server_app.report.charts.bars import Bar, bar_chart
from server_app.report.charts.by_class import Classes, by_class_chart
from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.cloud import cloud_chart
from server_app.report.charts.heatmap import cosine_map, heatmap, numbers_of_columns, share_map
from server_app.report.charts.lines import line_chart
from server_app.report.charts.scatter import scatter_chart
from server_app.report.charts.series import Level, Series, shorten, value_text

__all__ = [
    "Bar",
    "Canvas",
    "Chart",
    "Classes",
    "Level",
    "Series",
    "bar_chart",
    "by_class_chart",
    "cloud_chart",
    "cosine_map",
    "heatmap",
    "line_chart",
    "numbers_of_columns",
    "scatter_chart",
    "share_map",
    "shorten",
    "value_text",
]
