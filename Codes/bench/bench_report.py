"""What the bench tells: a table, ratios, goals and a picture, kept as an MLflow run."""

import contextlib
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import pandas as pd
import psutil

from Codes.bench import bench_ways

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Environment: TypeAlias = Mapping[
    str, str
]  # the variables of all that is measured (see bench.private_place)
Medians: TypeAlias = dict[tuple[str, int], float]  # {(key, workers): seconds}
VERSIONS = ("mlflow", "papermill", "ipykernel", "jupyter_client", "jupyterlab", "scikit-learn")
EXPERIMENT = "bench"
# As in the notebooks' figures, whose module handles tables and is none of the runner's.
BLUE, ORANGE = "#0072B2", "#E69F00"
STYLE = {
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}
TITLES = {
    "runs": "A run of a small training",
    "stages": "The stages of a run with a warm kernel",
    "commands": "A command, from the shell",
    "lab": "JupyterLab: from a new notebook to its first imports",
    "sweep": "A sweep of small trainings, from the start of the command to its end",
    "costs": "What a sweep adds to its trials",
    "serve": "A served model: an answer to one row",
    "forms": "A served model: predicting one row, in process, again and again",
    "serve_many": "A served model: an answer to 1,000 rows",
    "gpu": "A network's training on the processor and on a graphics card",
    "gate": "How often the gate errs, on models whose difference is known",
}
UNITS = {"gate": "share"}  # of what is not measured in seconds
BASES = {  # what others are compared with
    "runs": ("a", "times_a"),
    "commands": ("papermill", "times_papermill_command"),
    "sweep": ("a", "times_loop_a"),
    "serve": ("mlflow", "times_mlflow"),
    "serve_many": ("mlflow", "times_mlflow_1000_rows"),
}
NOTE = """a, b and c start a kernel for each run; d and e isolate nothing. b and c also record the parameters, the
code's version, the executed notebook and its page, durations and a manifest; a and d leave the executed notebook
as a file; e leaves neither. Seconds are medians; with two workers, wall time divided by the runs of both."""


class Row(TypedDict):
    """A thing that was measured: so often, by so many workers (or clients) at once."""

    section: str
    key: str
    what: str
    workers: int
    measured: int
    seconds: float
    fastest: float
    slowest: float


def row(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    section: str, key: str, what: str, workers: int, seconds: Sequence[float]
) -> Row:
    """One thing measured: the median, the fastest and the slowest of its `seconds` (a list)."""
    return Row(
        section=section,
        key=key,
        what=what,
        workers=workers,
        measured=len(seconds),
        seconds=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
    )


def say(what: str, number: int, rounds: int, name: str, seconds: float) -> None:
    """Tell on one line of stderr how far it is; round 0 is the one that does not count."""
    unit = "" if what == "gate" else " s"
    told = f"{what}, round {number} of {rounds}: {name} {seconds:.4g}{unit}"
    print(told, file=sys.stderr, flush=True)


def medians(table: pd.DataFrame, section: str = "runs") -> Medians:
    """{(key, workers): seconds} of the `section`."""
    rows = table[table.section == section]
    return dict(zip(zip(rows.key, rows.workers), rows.seconds))


def ratios(table: pd.DataFrame) -> dict[str, float]:
    """{metric: how many times as fast each way is as its section's base with one worker}; {} without that.

    Servers are compared at the same number of clients.
    """
    found = {}
    for section, (way, name) in BASES.items():
        seconds = medians(table, section)
        for (key, workers), each in seconds.items():
            base = seconds.get((way, workers if section.startswith("serve") else 1))
            if base:
                found[f"{name}/{key}_{workers}"] = base / each
    return found


def goals(table: pd.DataFrame) -> list[str]:
    """Lines that tell of each goal whether it is met, as far as it was measured."""
    seconds, times = medians(table), ratios(table)
    lines = []
    if ("a", 1) in seconds and ("c", 1) in seconds:
        for workers, least in ((1, 12), (2, 24)):
            got = times[f"times_a/c_{workers}"]
            lines.append(
                f"c with {workers} worker{'s' * (workers > 1)} at least {least} times as fast as a one "
                f"after another: {got:.1f}: {verdict(got >= least)}"
            )
    if ("c", 1) in seconds and ("e", 1) in seconds:
        above = seconds["c", 1] - seconds["e", 1]
        lines.append(f"c less than 0.25 s above e: {above:.3f} s: {verdict(above < 0.25)}")
    lines += goals_of_sweeps(medians(table, "costs")) + goals_of_servers(times)
    lines += goals_of_commands(medians(table, "commands"))
    return lines + goals_of_the_gate(table[table.section == "gate"])


def goals_of_commands(seconds: Medians) -> list[str]:
    """The same of commands by the template: half a second, a second for a run of the small notebook."""
    most = dict.fromkeys(("help", "problems", "describe", "models", "history"), 0.5) | {"run": 1.0}
    return [
        f"the command {name} in under {limit:g} s: {spent:.2f} s: {verdict(spent < limit)}"
        for name, limit in most.items()
        if (spent := seconds.get((name, 1)))
    ]


def goals_of_the_gate(rows: pd.DataFrame) -> list[str]:
    """The same of the gate's error rates, as far as so many trials tell."""
    lines = []
    for key, most, what in (
        ("no_better", 0.025, "a model that is no better passes in 2.5 % at most"),
        ("slices", 0.05, "of two equal models one is refused for a slice in under 5 %"),
    ):
        asked = rows[rows.key.str.startswith(key)]
        if times := asked.measured.sum():
            share = (asked.seconds * asked.measured).sum() / times
            doubt = 2 * (most * (1 - most) / times) ** 0.5
            lines.append(f"{what}: {share:.1%} of {times}: {verdict(share <= most + doubt)}")
    return lines


def goals_of_servers(times: Mapping[str, float]) -> list[str]:
    """The same of served models, by these ratios."""
    lines = []
    for name, least in (("times_mlflow", 3), ("times_mlflow_1000_rows", 1)):
        for clients in (1, 16):
            got = times.get(f"{name}/ours_{clients}")
            what = "one row" if least > 1 else "1,000 rows"
            if got:
                lines.append(
                    f"ours at least {least} times as fast as MLflow's server, {what}, {clients} clients: "
                    f"{got:.1f}: {verdict(got >= least)}"
                )
    return lines


def goals_of_sweeps(seconds: Medians) -> list[str]:
    """The same of sweeps, whose costs are these `seconds`."""
    lines = []
    if ("own", 1) in seconds:
        own = seconds["own", 1]
        lines.append(
            f"the scheduler takes under 10 ms a trial: {own * 1000:.1f} ms: {verdict(own < 0.01)}"
        )
    if ("late", 2) in seconds:
        times = seconds["late", 2] / seconds["early", 2]
        lines.append(
            "a sweep's last trials take at most 1.1 times what the first ones take: "
            f"{times:.2f} times: {verdict(times <= 1.1)}"
        )
    return lines


def verdict(good: bool) -> str:
    """The word for a goal."""
    return "met" if good else "not met"


def metrics(table: pd.DataFrame) -> dict[str, float]:
    """{metric: value} of everything in `table`, as the run keeps it."""
    found = {}
    rows: list[Any] = list(table.itertuples())
    for each in rows:
        pair = f"{each.key}_{each.workers}"
        names = {"runs": pair} | dict.fromkeys(("commands", "lab", "costs", "forms"), each.key)
        names |= dict.fromkeys(("sweep", "serve", "serve_many"), pair) | {"gate": each.key}
        name = names.get(each.section, each.what)
        found[f"{each.section}/{name.replace(',', '')}"] = each.seconds
    return found | ratios(table)


def facts(rounds: int) -> dict[str, Any]:
    """{parameter: value} that tell where and how it was measured."""
    machine = {"cpu": cpu(), "cores": os.cpu_count()}
    machine |= {
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.platform(),
    }
    software = {"python": platform.python_version()} | {name: version(name) for name in VERSIONS}
    ploomber = {"ploomber-engine": bench_ways.PLOOMBER.name.rpartition("-")[2]}
    return (
        machine
        | software
        | ploomber
        | {"rounds": rounds, "load_before": round(os.getloadavg()[0], 2)}
    )


def cpu() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(table: pd.DataFrame, given: Mapping[str, Any]) -> None:
    """Print `table`, ratios and goals, and keep them with the facts `given` and the picture as a run."""
    print("", *(f"{name}: {value}" for name, value in given.items()), sep="\n")
    times = ratios(table)
    parts: Any = table.groupby("section", sort=False)
    for section, rows in parts:
        shown = rows.drop(columns=["section", "key"]).set_index("what")
        way, name = BASES.get(section, ("", ""))
        if (way, 1) in medians(table, section):
            shown[f"times {way}"] = [
                times[f"{name}/{r.key}_{r.workers}"] for r in rows.itertuples()
            ]
        if section in UNITS:
            shown = shown[["measured", "seconds"]].rename(columns={"seconds": UNITS[section]})
        print(f"\n{TITLES[section]}\n{shown.to_string(float_format='{:.4g}'.format)}")
        print(f"\n{NOTE}" if section == "runs" else "")
    print("", *(f"goal: {line}" for line in goals(table)), sep="\n")
    print(keep(table, given))


def keep(table: pd.DataFrame, given: Mapping[str, Any]) -> str:
    """Keep everything as a run of the workbook's own store; returns a line that says where."""
    import mlflow

    from Codes.runs import identity, tracking

    tracking.use_store()
    experiment = tracking.ensure_experiment(EXPERIMENT)
    tags = identity.tags(Path(__file__).with_name("bench.py")) | {"mlflow.source.type": "LOCAL"}
    del tags[identity.NOTEBOOK]
    with mlflow.start_run(experiment_id=experiment, run_name="make bench", tags=tags) as run:
        mlflow.log_params(dict(given))
        mlflow.log_metrics(metrics(table))
        with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
            table.to_csv(f"{folder}/bench.csv", index=False)
            mlflow.log_artifact(f"{folder}/bench.csv")
        mlflow.log_text("\n".join([*goals(table), ""]), "goals.txt")
        mlflow.log_figure(picture(table), "bench.png", save_kwargs={"dpi": 150})
        where = run.info.artifact_uri
    return f"kept as the run {run.info.run_id} of the experiment {EXPERIMENT}, with bench.csv and bench.png in {where}"


def picture(table: pd.DataFrame) -> "Figure":
    """Bars of seconds for each section, with the values written on; the runs on an axis of powers of ten."""
    import matplotlib.pyplot as plt

    parts: list[Any] = list(table.groupby("section", sort=False))
    sizes = [len(rows) for _, rows in parts]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(8, len(parts) + 0.25 * sum(sizes)))
        axes = figure.subplots(len(parts), 1, height_ratios=sizes, squeeze=False)
        for axis, (section, rows) in zip(axes[:, 0], parts):
            bars(axis, section, rows[::-1])
        plt.close(figure)
    return figure


def bars(axis: "Axes", section: str, rows: pd.DataFrame) -> None:
    """The `rows` of one `section` on `axis`, from its foot upwards; two workers in the second colour."""
    labels = rows.what + rows.workers.map({1: "", 2: ", two workers", 16: ", 16 clients"})
    drawn = axis.barh(
        labels, rows.seconds, color=rows.workers.map({1: BLUE, 2: ORANGE, 16: ORANGE})
    )
    axis.bar_label(drawn, [f"{seconds:.3g}" for seconds in rows.seconds], padding=3)
    axis.set(title=TITLES[section], xlabel=UNITS.get(section, "seconds"))
    axis.margins(x=0.1)
    if section in ("runs", "sweep", "costs", "forms", "commands"):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
