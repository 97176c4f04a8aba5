"""The page as one file for a browser, one for a terminal, one for programs; and the figures beside them."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np

from common.experiment import Exercise
from common.files import atomic_write, write_json
from common.reporting.report import charts, claims, content, gallery, pictures
from common.reporting.report.content import Request
from common.reporting.report.runs import Runs
from common.reporting.report.sections import SECTIONS

TEMPLATES = Path(__file__).parent
NAMED_CLASSES = 50  # up to here a confusion matrix can be read


def write_report(output: Path, request: Request, runs: Runs) -> dict:
    """Writes ``report.html``, ``report.md``, ``report.json`` and ``figures/`` into a folder.

    Returns:
        what ``report.json`` holds.
    """
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    found = content.collect(request, runs)
    figures = _figures(request.exercises, runs, folder)
    others = _other_pictures(request.exercises, runs, found["calibration"], folder)
    specifications = _charts(request.exercises, runs, found)
    found["figures"] = {
        str(number): {"file": f"figures/{figure['name']}", "shows": figure["shows"]}
        for number, figure in figures.items()
    }
    write_json(output / "report.json", found)
    values = {
        **found,
        "pictures": figures,
        "other_pictures": others,
        "gallery_pixels": {
            exercise.name: gallery.pixels(examples)
            for exercise, run in content.with_examples(request.exercises, runs)
            if (examples := gallery.read_examples(run))
        },
        "charts": specifications,
        "chart_pictures": _chart_pictures(specifications, folder),
        "curve_tables": _curve_tables(request.exercises, runs),
        "similar": claims.SIMILAR,
        "claim_counts": _counts(found["claims"]),
    }
    for name in ("report.html", "report.md"):
        values["is_html"] = name.endswith("html")
        text = _environment().get_template(f"{name}.j2").render(values)
        atomic_write(output / name, lambda file, text=text: file.write(text.encode("utf-8")))
    return found


def _figures(exercises: Sequence[Exercise], runs: Runs, folder: Path) -> dict[int, dict]:
    """Draws the report's figures that have runs, and returns them by number: name, what they show, SVG as a URL."""
    found = {}
    for number, figure in pictures.report_figures(exercises).items():
        if not all(figure.groups(runs)):
            continue
        drawn = pictures.drawn(figure.draw, runs)
        pictures.save(drawn, folder / figure.name)
        found[number] = {
            "name": figure.name,
            "title": figure.title,
            "metric": figure.metric,
            "shows": figure.describe(runs),
            "url": _url((folder / f"{figure.name}.svg").read_bytes(), "image/svg+xml"),
        }
    return found


def _other_pictures(
    exercises: Sequence[Exercise], runs: Runs, calibrations: Sequence[dict], folder: Path
) -> list[dict]:
    """Confusion matrices that can be read, and the reliability diagram."""
    found = []
    for group in (content.best(exercise, runs) for exercise in exercises):
        classes = group[0].config["dataset"]["classes"] if group else []
        if not 0 < len(classes) <= NAMED_CLASSES:
            continue
        matrix = np.sum([run.per_class["confusion_matrix"] for run in group], axis=0)
        share = matrix.diagonal() / np.clip(matrix.sum(axis=1), 1, None)
        best, worst = (classes[int(index)].replace("_", " ") for index in (share.argmax(), share.argmin()))
        name, count = group[0].variant, len(group)
        title = f"{name}: confusion on the test images"
        shows = (
            f"Confusion matrix of {name}, {len(classes)} classes, {count} run{'s together' if count > 1 else ''}: "
            f"{best} is recognised best ({share.max():.0%}), {worst} worst ({share.min():.0%})."
        )
        found.append(_picture(pictures.drawn(pictures.confusion, group, title), folder, f"confusion-{name}", shows))
    if calibrations:
        told = "; ".join(f"{each['name']} {each['error']:.3f}" for each in calibrations)
        shows = f"Reliability diagram: accuracy against confidence. Expected calibration error: {told}."
        found.append(_picture(pictures.drawn(pictures.reliability, calibrations), folder, "reliability", shows))
    return found


def _picture(figure, folder: Path, name: str, shows: str) -> dict:
    pictures.save(figure, folder / name)
    return {"name": name, "shows": shows, "url": _url((folder / f"{name}.svg").read_bytes(), "image/svg+xml")}


def _charts(exercises: Sequence[Exercise], runs: Runs, found: dict) -> dict[str, dict]:
    """Vega-Lite specifications by the names of their places on the page."""
    specifications = {}
    for number, figure in pictures.report_figures(exercises).items():
        groups = figure.groups(runs)
        if all(groups):
            specifications[f"figure-{number:02}"] = charts.curves(groups, figure.metric)
    measured = [row for row in found["summary"] if row["n"]]
    if measured:
        rows = [
            {
                "name": f"{row['heading']}" + (" *" if row["why_not"] else ""),
                "printed": None if row["why_not"] else row["printed_accuracy"],
                **{key: row["accuracy"][key] for key in ("mean", "low", "high")},
                "n": row["n"],
                "verdict": row["verdict"],
            }
            for row in measured
        ]
        specifications["overview"] = charts.overview(rows)
    ablation = [
        _points(gain, gain["name"], kind)
        for each in found["ablation"]
        for gain, kind in (
            (each["added"], "added alone to BaseNet with Adam"),
            (each["removed"], "taken away from the network with all"),
        )
        if gain["n"]
    ]
    if ablation:
        specifications["ablation"] = charts.gains(ablation, "Gain in test accuracy, points")
    steps = [_points(gain, gain["name"], "this step") for gain in found["bonus_steps"] if gain["n"]]
    if steps:
        specifications["bonus"] = charts.gains(steps, "Gain in test accuracy, points")
    costly = [
        {**row, "exercise": section.short}
        for row in found["costs"]
        for section in SECTIONS
        if section.script == row["script"] and row["multiply_adds"] and section.key != "3"
    ]
    if costly:
        specifications["cost"] = charts.cost(costly)
    return specifications


def _chart_pictures(specifications: dict[str, dict], folder: Path) -> dict[str, str]:
    """The charts that are not figures of the report as pictures too: files beside those, and URLs."""
    urls = {}
    for name, specification in specifications.items():
        if not name.startswith("figure-"):
            svg = charts.picture(specification)
            atomic_write(folder / f"{name}.svg", lambda file, svg=svg: file.write(svg.encode("utf-8")))
            urls[name] = _url(svg.encode("utf-8"), "image/svg+xml")
    return urls


def _points(gain: dict, name: str, kind: str) -> dict:
    scaled = {key: None if gain[key] is None else 100 * gain[key] for key in ("mean", "low", "high")}
    return {"name": name, "kind": kind, **scaled, "n": gain["n"]}


def _curve_tables(exercises: Sequence[Exercise], runs: Runs) -> dict[str, list[tuple]]:
    return {
        f"{exercise.name}-{variant}": charts.curve_table(group)
        for exercise in exercises
        for variant in exercise.reported
        if (group := content.shown(exercise, variant, runs))
    }


def _counts(tested: Sequence[dict]) -> dict[str, int]:
    words = [each["word"] for each in tested]
    return {
        word: words.count(word)
        for word in dict.fromkeys((claims.SUPPORTED, claims.CONTRADICTED, claims.OPEN, claims.UNTESTED))
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name) and name.startswith("report.html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": _percent,
        "points": lambda value: "–" if value is None else _minus(f"{100 * value:+.1f}"),
        "number": lambda value, digits=3: "–" if value is None else _minus(f"{value:.{digits}f}"),
        "count": lambda value: "–" if value is None else f"{value:,}",
        "short_count": _short_count,
        "json_script": _json_script,
        "cell": lambda text: str(text).replace("|", "\\|"),
    }
    environment.globals |= {
        "style": (TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "script": (TEMPLATES / "report.js").read_text(encoding="utf-8"),
        "vega": charts.javascript(),
    }
    return environment


def _minus(text: str) -> str:
    """The text with a minus sign in place of a hyphen."""
    return text.replace("-", "−")


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _short_count(value: int | None) -> str:
    """12,345,678 as 12.3 M, three digits at most."""
    if value is None:
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{unit}"
    return str(value)


def _json_script(value) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
