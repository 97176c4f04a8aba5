"""All that the page says, as one value in the types of JSON: from run folders and the report's printed numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from common.experiment import Exercise, Reported
from common.reporting.report import claims, worth
from common.reporting.report.commands import command
from common.reporting.report.gallery import gallery, read_examples
from common.reporting.report.layers import read_layer_table
from common.reporting.report.runs import Runs
from common.reporting.report.sections import heading, section_of
from common.reporting.report.statistics import Pooled, summarize, welch_difference
from common.reporting.report.verdicts import Row, Verdict, joint_test, judge, pool_rows
from common.reporting.run_folder import Run

NO_DEVIATION = "cannot be compared: no experiment has two runs"
CONFUSED_PAIRS = 8
CALIBRATED = ("early-stopping", "early-stopping-no-dropout", "residual")


@dataclass(frozen=True)
class Request:
    """What a page is made of.

    Attributes:
        exercises: in the report's order.
        failed: runs that failed, each with ``run`` and ``error``.
        note: sentences for the top of the page, such as the budget that all runs had.
        commands: that made the page.
        equivalence: what ``benchmarks/equivalence.py`` wrote: test accuracies of the report's own way of training
            beside the suite's.
    """

    exercises: Sequence[Exercise]
    failed: Sequence[Mapping[str, str]] = ()
    note: Sequence[str] = ()
    commands: Sequence[str] = ()
    equivalence: Mapping | None = None


def collect(request: Request, runs: Runs) -> dict:
    """Everything on the page but its pictures and charts."""
    experiments = {
        exercise.name: [_experiment(exercise, each.name, runs) for each in exercise.experiments]
        for exercise in request.exercises
    }
    _judge_all([each for found in experiments.values() for each in found], request.exercises, runs)
    summary = [
        each for exercise in request.exercises for each in experiments[exercise.name] if each["printed_accuracy"]
    ]
    return {
        "banners": _banners(request, runs),
        "notes": list(request.note),
        "summary": summary,
        "joint": _joint(request.exercises, runs),
        "sections": [
            {
                **asdict(section_of(exercise)),
                "description": exercise.description,
                "experiments": experiments[exercise.name],
            }
            for exercise in request.exercises
        ],
        "claims": _claims(request.exercises, runs),
        "ablation": [
            {"name": each.name, "added": _gain(added), "removed": _gain(removed)}
            for each, added, removed in worth.ablation(runs)
        ],
        "bonus_steps": [_gain(each) for each in worth.bonus_steps(runs)],
        "costs": [asdict(each) for each in worth.costs(runs)],
        "equivalence": _equivalence(request),
        "confused": _confused(request.exercises, runs),
        "galleries": _galleries(request.exercises, runs),
        "calibration": _calibrations(request.exercises, runs),
        "environment": _environments(runs),
        "data": _data(runs),
        "commands": [*request.commands],
        "run_commands": _run_commands(runs),
        "damaged": [
            {"run": each.folder.relative_to(runs.output).as_posix(), "error": each.reason} for each in runs.damaged
        ],
        "failed": [dict(each) for each in request.failed],
        "missing": [
            f"{exercise.name} {each['variant']}"
            for exercise in request.exercises
            for each in experiments[exercise.name]
            if not each["n"] and each["printed_accuracy"]
        ],
    }


def shown(exercise: Exercise, variant: str, runs: Runs) -> list[Run]:
    """The runs that stand for a variant on the page: its own, else those nearest to it."""
    return runs.nearest(exercise.name, variant)


def _experiment(exercise: Exercise, variant: str, runs: Runs) -> dict:
    reported: Reported | None = exercise.reported.get(variant)
    found = shown(exercise, variant, runs)
    accuracy = summarize([run.metrics["test_accuracy"] for run in found]) if found else None
    loss = summarize([run.metrics["test_loss"] for run in found]) if found else None
    table = read_layer_table(found[0].folder) if found else None
    return {
        "script": exercise.name,
        "exercise": section_of(exercise).short,
        "variant": variant,
        "id": f"{exercise.name}-{variant}",
        "heading": heading(exercise.name, variant),
        "description": exercise.experiment(variant).description,
        "name": runs.role(found[0]) if found else variant,
        "figures": list(reported.figures) if reported else [],
        "printed_accuracy": reported.accuracy if reported else None,
        "printed_loss": reported.loss if reported else None,
        "n": len(found),
        "accuracy": asdict(accuracy) if accuracy else None,
        "loss": asdict(loss) if loss else None,
        "verdict": "",
        "loss_verdict": "",
        "difference": None,
        "t": None,
        "p": None,
        "t_new_images": None,
        "why_not": _why_not(found, runs),
        "parameters": found[0].metrics["parameters"] if found else None,
        "layer_table": {"header": table.header, "rows": table.rows} if table else None,
        "multiply_adds": table.multiply_adds if table else None,
        "runs": [
            {
                "seed": run.seed,
                "test_accuracy": run.metrics["test_accuracy"],
                "interval": run.metrics["test_accuracy_interval"],
                "test_loss": run.metrics["test_loss"],
                "top5": run.metrics["test_top5_accuracy"],
                "epochs": run.metrics["epochs"],
                "evaluated_epoch": run.metrics["evaluated_epoch"],
                "folder": run.folder.relative_to(runs.output).as_posix(),
            }
            for run in found
        ],
    }


def _why_not(found: Sequence[Run], runs: Runs) -> str | None:
    """Why these runs do not compare with the report."""
    if not found:
        return "no run of it here"
    reasons = {run.not_comparable for run in found if run.not_comparable}
    settings = {setting for run in found for setting in runs.role(run).split(",")[1:]}
    if settings:
        reasons.add(f"other settings ({', '.join(sorted(settings))})")
    if any(run.name != runs.role(run) for run in found):
        reasons.add("the settings given to all runs here")
    return "; ".join(sorted(reasons)) or None


def _comparable(exercises: Sequence[Exercise], runs: Runs) -> list[tuple[str, str, Reported, list[Run]]]:
    """The rows whose runs compare with the report: script, variant, printed numbers, runs."""
    rows = []
    for exercise in exercises:
        for variant, reported in exercise.reported.items():
            found = shown(exercise, variant, runs)
            if not _why_not(found, runs):
                rows.append((exercise.name, variant, reported, found))
    return rows


def _rows(exercises: Sequence[Exercise], runs: Runs, metric: str) -> dict[tuple[str, str], Row]:
    """By script and variant."""
    rows = {}
    for script, variant, reported, found in _comparable(exercises, runs):
        values = [run.metrics[f"test_{metric}"] for run in found]
        images = found[0].config["dataset"]["test_images"] if metric == "accuracy" else None
        rows[script, variant] = Row(variant, getattr(reported, metric), values, images, metric == "accuracy")
    return rows


def _judge(
    exercises: Sequence[Exercise], runs: Runs, metric: str
) -> tuple[dict[tuple[str, str], Verdict], Pooled | None]:
    """The verdicts on all comparable rows, with the deviation that they share."""
    rows = _rows(exercises, runs, metric)
    pooled = pool_rows(list(rows.values()))
    return ({key: judge(row, pooled) for key, row in rows.items()} if pooled else {}), pooled


def _judge_all(experiments: Sequence[dict], exercises: Sequence[Exercise], runs: Runs) -> None:
    """Writes the verdicts into the experiments."""
    accuracy, _ = _judge(exercises, runs, "accuracy")
    loss, _ = _judge(exercises, runs, "loss")
    for each in experiments:
        if each["printed_accuracy"] is None:
            continue
        key = each["script"], each["variant"]
        if each["why_not"]:
            each["verdict"] = each["loss_verdict"] = f"cannot be compared: {each['why_not']}"
        elif key not in accuracy:
            each["verdict"] = each["loss_verdict"] = NO_DEVIATION
        else:
            verdict = accuracy[key]
            each |= {"verdict": verdict.word, "t": verdict.t, "p": verdict.p, "t_new_images": verdict.t_new_images}
            each["loss_verdict"] = loss[key].word
        if each["accuracy"] and not each["why_not"]:
            each["difference"] = each["accuracy"]["mean"] - each["printed_accuracy"]


def _joint(exercises: Sequence[Exercise], runs: Runs) -> dict | None:
    verdicts, pooled = _judge(exercises, runs, "accuracy")
    if not pooled or not verdicts:
        return None
    test = joint_test(list(verdicts.values()), pooled)
    critical = next(iter(verdicts.values())).critical
    wider = sum(abs(each.t_new_images or 0) > critical for each in verdicts.values())
    return (
        {**asdict(test), "pooled": asdict(pooled), "critical": critical, "beyond_if_new_images": wider}
        if test
        else None
    )


def _claims(exercises: Sequence[Exercise], runs: Runs) -> list[dict]:
    """The claims on these exercises, each with what came of it, and why its runs do not compare, if they do not."""
    caveats = {
        section_of(exercise).short: sorted(
            {run.not_comparable for run in runs.found if run.script == exercise.name and run.not_comparable}
        )
        for exercise in exercises
    }
    return [
        {
            "key": claim.key,
            "section": claim.section,
            "text": claim.text,
            "test": claim.test,
            "figures": list(claim.figures),
            **asdict(claim.examine(runs)),
            "caveats": caveats[claim.section],
        }
        for claim in claims.CLAIMS
        if claim.section in caveats
    ]


def _gain(gain: worth.Gain) -> dict:
    difference = gain.difference
    return {
        "name": gain.name,
        "before": gain.before,
        "after": gain.after,
        **(
            {"mean": None, "low": None, "high": None, "n": 0}
            if difference is None
            else {"mean": difference.mean, "low": difference.low, "high": difference.high, "n": difference.n[0]}
        ),
    }


def _equivalence(request: Request) -> list[dict]:
    """Mean accuracies of both ways of training, and their difference: suite minus the report's way."""
    printed = {name: reported for exercise in request.exercises for name, reported in exercise.reported.items()}
    return [
        {
            "name": row["variant"],
            "reports_way": asdict(summarize(row["reports_way"])),
            "suite": asdict(summarize(row["suite"])),
            "difference": asdict(welch_difference(row["reports_way"], row["suite"])),
            "printed_accuracy": printed[row["variant"]].accuracy,
        }
        for row in (request.equivalence or {"rows": []})["rows"]
        if row["variant"] in printed
    ]


def _banners(request: Request, runs: Runs) -> list[str]:
    """A sentence for each reason why runs do not compare with the report."""
    banners = []
    shorts = {exercise.name: section_of(exercise).short for exercise in request.exercises}
    reasons = {run.not_comparable for run in runs.found if run.not_comparable and run.script in shorts}
    for reason in sorted(reasons):
        scripts = [run.script for run in runs.found if run.not_comparable == reason and run.script in shorts]
        where = ", ".join(shorts[script] for script in shorts if script in scripts)
        runs_are = "1 run does" if len(scripts) == 1 else f"{len(scripts)} runs do"
        banners.append(f"{where}: {runs_are} not compare with the report ({reason}).")
    return banners


def best(exercise: Exercise, runs: Runs) -> list[Run]:
    """The runs of the exercise's experiment that does best on the validation images; none if it has no runs."""
    groups = [group for each in exercise.experiments if (group := shown(exercise, each.name, runs))]
    return max(groups, key=lambda group: np.mean([run.metrics["val_accuracy"] for run in group]), default=[])


def _confused(exercises: Sequence[Exercise], runs: Runs) -> list[dict]:
    """The most confused pairs of each exercise's best experiment."""
    return [_pairs(exercise, group, runs) for exercise in exercises if (group := best(exercise, runs))]


def with_examples(exercises: Sequence[Exercise], runs: Runs) -> list[tuple[Exercise, Run]]:
    """Each exercise's best run that kept examples."""
    found = []
    for exercise in exercises:
        kept = [run for run in runs.found if run.script == exercise.name and (run.folder / "examples.npz").exists()]
        found += [(exercise, run) for run in best(exercise, Runs(runs.output, kept, (), runs.roles))[:1]]
    return found


def _galleries(exercises: Sequence[Exercise], runs: Runs) -> list[dict]:
    return [
        {
            "exercise": section_of(exercise).short,
            "script": exercise.name,
            "name": runs.role(run),
            "seed": run.seed,
            **gallery(run, examples),
        }
        for exercise, run in with_examples(exercises, runs)
        if (examples := read_examples(run))
    ]


def _pairs(exercise: Exercise, group: Sequence[Run], runs: Runs) -> dict:
    matrix = np.sum([run.per_class["confusion_matrix"] for run in group], axis=0)
    classes = group[0].config["dataset"]["classes"]
    images = matrix.sum(axis=1)
    wrong = matrix - np.diag(matrix.diagonal())
    pairs = []
    for index in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED_PAIRS]:
        true, predicted = divmod(int(index), len(classes))
        if wrong[true, predicted]:
            pairs.append(
                {
                    "true": classes[true].replace("_", " "),
                    "predicted": classes[predicted].replace("_", " "),
                    "share": float(wrong[true, predicted] / images[true]),
                    "back": float(wrong[predicted, true] / max(images[predicted], 1)),
                }
            )
    return {
        "script": exercise.name,
        "exercise": section_of(exercise).short,
        "name": runs.role(group[0]),
        "runs": len(group),
        "classes": len(classes),
        "pairs": pairs,
    }


def _calibrations(exercises: Sequence[Exercise], runs: Runs) -> list[dict]:
    """Of the experiments with and without dropout, over all their runs together; none of runs that lack it."""
    found = []
    for exercise in exercises:
        for variant in CALIBRATED:
            bins = [run.metrics.get("test_reliability") for run in shown(exercise, variant, runs)]
            bins = [each for each in bins if each]
            if bins:
                images = np.array([each["images"] for each in bins])
                count = images.sum(axis=0)
                means = {
                    key: (images * [each[key] for each in bins]).sum(axis=0) / count.clip(1)
                    for key in ("confidence", "accuracy")
                }
                error = (count * np.abs(means["accuracy"] - means["confidence"])).sum() / count.sum()
                rows = [
                    {"images": int(n), "confidence": float(confidence), "accuracy": float(accuracy)}
                    for n, confidence, accuracy in zip(count, means["confidence"], means["accuracy"])
                    if n
                ]
                found.append({"name": variant, "error": float(error), "runs": len(bins), "bins": rows})
    return found


def _data(runs: Runs) -> list[dict]:
    seen: dict[tuple, dict] = {}
    for run in runs.found:
        dataset = run.config["dataset"]
        key = (dataset["name"], dataset["sha256"])
        row = seen.setdefault(
            key,
            {
                "name": dataset["name"],
                "sha256": dataset["sha256"],
                "classes": len(dataset["classes"]),
                "training_images": dataset["training_images"],
                "validation_images": dataset["validation_images"],
                "test_images": dataset["test_images"],
                "not_comparable": dataset["not_comparable"],
                "seeds": set(),
            },
        )
        row["seeds"].add(run.seed)
    return [{**row, "seeds": sorted(row["seeds"])} for row in seen.values()]


def _environments(runs: Runs) -> list[dict]:
    """Where the runs were made: each combination once, with the number of processes and of runs."""
    found: dict[str, dict] = {}
    for run in runs.found:
        for row in run.environment:
            versions = ", ".join(
                f"{name} {version}" for name, version in (row.get("versions") or {}).items() if version
            )
            clean = {True: "", False: ", changed since", None: ""}[row.get("clean")]
            values = {
                "processor": row.get("processor") or "not recorded",
                "device": row.get("device") or "not recorded",
                "threads": row.get("threads"),
                "system": row.get("system") or "not recorded",
                "versions": versions or "not recorded",
                "commit": f"{row['commit'][:12]}{clean}" if row.get("commit") else "not recorded",
            }
            entry = found.setdefault(str(values), {**values, "processes": 0, "runs": set()})
            entry["processes"] += 1
            entry["runs"].add(run.folder)
    return [{**entry, "runs": len(entry["runs"])} for entry in found.values()]


def _run_commands(runs: Runs) -> list[str]:
    """The commands that make the runs again, the seeds of a NAME together."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for run in runs.found:
        seeds.setdefault((run.script, run.name, run.dataset), []).append(run.seed)
    return [command(script, name, dataset, sorted(numbers)) for (script, name, dataset), numbers in seeds.items()]
