"""Charts to look into, as Vega-Lite specifications: zoom with the wheel, read values by pointing.

Colours are left to the page, which knows whether it is light or dark.
"""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import altair as alt
import vl_convert

from common.reporting.run_folder import Run

HEIGHT = 230
COLORS = ["#0072b2", "#d55e00", "#007a57", "#a8417f"]  # as in report.js
SPLITS = {"training": "", "validation": "val_"}
AXES = {"loss": "Loss (cross-entropy)", "accuracy": "Accuracy"}


def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script that sets ``window.vegaEmbed``."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def picture(specification: dict) -> str:
    """A chart as SVG, in the colours of a light page."""
    config = {"background": "white", "range": {"category": COLORS}, "legend": {"orient": "bottom"}}
    return vl_convert.vegalite_to_svg({**specification, "width": 620, "config": config})


def curves(groups: Sequence[Sequence[Run]], metric: str) -> dict:
    """Metric against epochs: a line for the mean of each experiment and split, a thin one for each run."""
    rows = []
    for group in groups:
        for split, prefix in SPLITS.items():
            line = split if len(groups) == 1 else f"{group[0].variant}, {split}"
            for run in group:
                key = prefix + metric
                rows += [
                    {"e": row["epoch"], "v": round(row[key], 4), "s": f"seed {run.seed}", "k": line}
                    for row in run.history
                ]
    names = list(dict.fromkeys(row["k"] for row in rows))
    color = alt.Color("k:N", sort=names, title=None, legend=alt.Legend())
    dash = alt.StrokeDash("k:N", sort=names, title=None, legend=None)
    widths = [1, 3] * len(groups) if len(groups) > 1 else [2.2, 2.2]  # thin training, thick validation
    width = alt.StrokeWidth("k:N", sort=names, scale=alt.Scale(range=widths), legend=None)
    epoch = alt.X("e:Q", title="Epoch", axis=alt.Axis(tickMinStep=1, format="d"))
    base = alt.Chart(alt.Data(values=rows)).encode(color=color, x=epoch)
    each = base.mark_line(strokeWidth=0.7, opacity=0.45).encode(
        y=alt.Y("v:Q", title=AXES[metric], scale=alt.Scale(zero=False)), detail="s:N"
    )
    middle = base.mark_line().encode(y=alt.Y("mean(v):Q", title=AXES[metric]), strokeDash=dash, strokeWidth=width)
    points = base.mark_point(size=45, filled=True, opacity=0.01).encode(
        y=alt.Y("v:Q", title=AXES[metric]),
        tooltip=[
            alt.Tooltip("k:N", title="line"),
            alt.Tooltip("s:N", title="run"),
            alt.Tooltip("e:Q", title="epoch"),
            alt.Tooltip("v:Q", title=metric, format=".4f"),
        ],
    )
    return _specification(alt.layer(each, middle, points).interactive())


def overview(rows: Sequence[dict]) -> dict:
    """Printed against measured test accuracy, with intervals.

    Args:
        rows: with ``name``, ``exercise``, ``printed``, ``mean``, ``low``, ``high``, ``n``, ``verdict``.
    """
    values = [{key: row[key] for key in ("name", "printed", "mean", "low", "high", "n", "verdict")} for row in rows]
    order = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=order, title=None)
    numbers = [row[key] for row in values for key in ("printed", "mean", "low", "high") if row[key] is not None]
    margin = 0.02
    scale = alt.Scale(domain=[max(0, min(numbers) - margin), min(1, max(numbers) + margin)], nice=False)
    tooltip = [
        alt.Tooltip("name:N", title="experiment"),
        alt.Tooltip("printed:Q", title="printed", format=".4f"),
        alt.Tooltip("mean:Q", title="measured", format=".4f"),
        alt.Tooltip("low:Q", title="from", format=".4f"),
        alt.Tooltip("high:Q", title="to", format=".4f"),
        alt.Tooltip("n:Q", title="runs"),
        alt.Tooltip("verdict:N", title="verdict"),
    ]
    base = alt.Chart(alt.Data(values=values)).encode(y=y, tooltip=tooltip)
    title = "Test accuracy"
    intervals = [
        alt.Chart(alt.Data(values=known))
        .mark_rule(strokeWidth=3, opacity=0.55)
        .encode(
            y=y,
            x=alt.X("low:Q", title=title, scale=scale),
            x2="high:Q",
            color=alt.ColorDatum("measured, 95 % interval"),
        )
        for known in _with_interval(values)
    ]
    measured = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("mean:Q", title=title, scale=scale), color=alt.ColorDatum("measured, 95 % interval")
    )
    printed = base.mark_point(shape="diamond", size=90, strokeWidth=2).encode(
        x=alt.X("printed:Q", title=title, scale=scale),
        color=alt.ColorDatum("printed in the report"),
    )
    return _specification(alt.layer(*intervals, measured, printed).properties(height=24 * len(rows) + 20))


def gains(rows: Sequence[dict], title: str) -> dict:
    """Differences of test accuracy in points with their intervals, a line for each kind.

    Args:
        rows: with ``name``, ``kind``, ``mean``, ``low``, ``high``, ``n``; only those that have runs.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    encoding: dict[str, Any] = {
        "y": alt.Y("name:N", sort=names, title=None),
        "yOffset": alt.YOffset("kind:N", sort=kinds),
        "color": alt.Color("kind:N", sort=kinds, title=None, legend=alt.Legend(columns=1, labelLimit=320)),
        "tooltip": [
            alt.Tooltip("name:N", title="change"),
            alt.Tooltip("kind:N", title="where"),
            alt.Tooltip("mean:Q", title="points", format="+.2f"),
            alt.Tooltip("low:Q", title="from", format="+.2f"),
            alt.Tooltip("high:Q", title="to", format="+.2f"),
            alt.Tooltip("n:Q", title="pairs of runs"),
        ],
    }
    base = alt.Chart(alt.Data(values=list(rows))).encode(**encoding)
    intervals = [
        alt.Chart(alt.Data(values=known))
        .mark_rule(strokeWidth=3, opacity=0.55)
        .encode(x=alt.X("low:Q", title=title), x2="high:Q", **encoding)
        for known in _with_interval(rows)
    ]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("mean:Q", title=title), shape=alt.Shape("kind:N", sort=kinds, legend=None)
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[3, 3]).encode(x="zero:Q")
    height = max(110, (18 + 14 * len(kinds)) * len(names))
    return _specification(alt.layer(zero, *intervals, points).properties(height=height))


def cost(rows: Sequence[dict]) -> dict:
    """Test accuracy against multiply-adds, the networks on images alone.

    Args:
        rows: with ``name``, ``exercise``, ``accuracy``, ``multiply_adds``, ``parameters``, ``seconds_an_epoch``.
    """
    chart = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_point(filled=True, size=80, opacity=0.9)
        .encode(
            x=alt.X(
                "multiply_adds:Q",
                scale=alt.Scale(type="log"),
                title="Multiply-adds for one image",
                axis=alt.Axis(format="~s", tickCount=6),
            ),
            y=alt.Y("accuracy:Q", scale=alt.Scale(zero=False, padding=12), title="Test accuracy"),
            color=alt.Color("exercise:N", title=None, legend=alt.Legend()),
            shape=alt.Shape("exercise:N", title=None),
            tooltip=[
                alt.Tooltip("name:N", title="experiment"),
                alt.Tooltip("accuracy:Q", format=".4f"),
                alt.Tooltip("multiply_adds:Q", title="multiply-adds", format=","),
                alt.Tooltip("parameters:Q", format=","),
                alt.Tooltip("seconds_an_epoch:Q", title="seconds an epoch", format=".1f"),
            ],
        )
        .interactive()
    )
    return _specification(chart.properties(height=300))


def curve_table(group: Sequence[Run]) -> list[tuple]:
    """Epoch, runs that reached it, and the means over those of the four curves."""
    rows = []
    for epoch in range(1, max(len(run.history) for run in group) + 1):
        reached = [run.history[epoch - 1] for run in group if len(run.history) >= epoch]
        means = [mean(row[key] for row in reached) for key in ("loss", "val_loss", "accuracy", "val_accuracy")]
        rows.append((epoch, len(reached), *means))
    return rows


def _with_interval(rows: Sequence[dict]) -> list[list[dict]]:
    """The rows that have an interval, as the only layer of them; no layer without any, of which Vega would complain."""
    known = [row for row in rows if row["low"] is not None]
    return [known] if known else []


def _specification(chart: alt.LayerChart | alt.Chart) -> dict:
    if "height" not in chart.to_dict(validate=False):
        chart = chart.properties(height=HEIGHT)
    return chart.properties(width="container").to_dict(context={"pre_transform": False})
