"""Points over class counts, such as the norm of each class's vector."""

from collections.abc import Sequence

from server_app.report.charts.canvas import Canvas, Chart
from server_app.report.charts.legend import legend, legend_height, open_marks
from server_app.report.charts.scales import ZERO, count_limits, count_scale, hold_values
from server_app.report.charts.series import Series, value_text
from server_app.report.charts.theme import SOFT, area, colour, marker

_X_LABEL = "training images of the class"


def scatter_chart(
    name: str,
    series: Sequence[Series],
    names: Sequence[str],
    y_label: str,
    label: str,
    *,
    percent: bool = False,
    close: bool = False,
    guess: float | None = None,
) -> Chart | None:
    """Return open marks over class counts, on a logarithmic axis.

    Args:
        name: of the chart's files.
        series: clouds of (images of a class, y); None is returned where none has a point.
        names: of the points, the same in every series.
        y_label: name of the y axis.
        label: what the chart shows, in words.
        percent: whether y is a share.
        close: for points that lie close together: the y axis need not begin at zero, the x axis not span a decade.
        guess: the y that guessing gets, see `hold_values`.
    """
    shown = [s for s in series if s.known]
    if not shown:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(xlabel=f"{_X_LABEL} (log scale)")
        axes.set_title(y_label, loc="left", color=SOFT)
        for i, one in enumerate(shown):  # the later the smaller, so that marks at one place are all seen
            named = [(word, x, y) for word, (x, y) in zip(names, one.points, strict=False) if y is not None]
            words, xs, ys = zip(*named, strict=True)
            marks = axes.scatter(
                [max(x, ZERO) for x in xs], ys, s=area(max(12.0 - 3.2 * i, 5.0), one.style), marker=marker(one.style),
                facecolors="none", edgecolors=colour(one.style), linewidths=1.6 if len(names) <= 100 else 0.9,
                clip_on=False, zorder=3,
            )  # fmt: skip
            tips = [
                f"{word} ({x:,.0f} images), {one.name}: {value_text(y, percent)}"
                for word, x, y in zip(words, xs, ys, strict=True)
            ]
            canvas.tell(marks, tips)
        counts = [x for s in shown for x, _ in s.known]
        count_scale(axes.xaxis, *count_limits(counts, 2.0 if close else 10.0))
        values = [y for s in shown for _, y in s.known]
        hold_values(axes, values, percent=percent, from_zero=not close, guess=guess)
        legend(canvas, open_marks(shown), [s.name for s in shown])

    rows = [[s.name, word, x, y] for s in shown for word, (x, y) in zip(names, s.points, strict=False)]
    height = 350 + legend_height([s.name for s in shown])
    return Chart(name, label, ["series", "class", _X_LABEL, y_label], rows, height, draw)
