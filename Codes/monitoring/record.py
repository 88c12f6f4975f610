"""What is kept of each window: one MLflow run, the same again for the same window, below the course of its version."""

import base64
import hashlib
import html
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from Codes.figures import course
from Codes.ground.errors import counted
from Codes.ground.labels import number
from Codes.model_registry import registry
from Codes.model_registry.registry import Version
from Codes.drift import asked as asking, windows
from Codes.monitoring import backtest, kept_run
from Codes.monitoring.backtest import Replayed
from Codes.drift.judge import CAME, GRAVE, SAID, Judged, Policy
from Codes.monitoring.quality import Quality
from Codes.drift.reference import Profile
from Codes.drift.watched import Watched
from Codes.runs import identity, liveness
from Codes.stores.store import all_runs, alone

VERSION = "mlflow.workbook.monitor.version"
WINDOW = "mlflow.workbook.monitor.window"  # of a window's run: its name; of the course: COURSE
STATUS = "mlflow.workbook.monitor.status"
TABLE = "mlflow.workbook.monitor.table"  # of a window's run, and of a course: whose rows they were
CONTENT = "mlflow.workbook.monitor.content"  # a digest of all that was found
COURSE = "course"
ROWS = 20  # of a table on the page
EMPTY = 4  # windows without a row that are told in one line


@dataclass(frozen=True)
class Kept:
    """A window's run, whether something in it is new, and what it said before (empty: there was none).

    `other`: the table of which it said so, where that was not the same.
    """

    judged: Judged
    run_id: str
    is_new: bool
    before: str
    other: str = ""

    @property
    def told_before(self) -> str:
        """What the run said before, in words, where that was something else or of another table; else nothing."""
        if not self.is_new or not self.before:
            return ""
        if self.other:
            stays = ", which stays" if not self.judged.rows else ""
            return f" (before, of {self.other}: {self.before}{stays})"
        return f" (before: {self.before})" if self.before != self.judged.status else ""


class Keeper:  # pylint: disable=too-many-instance-attributes
    """Writes what was found of the windows of a `version` into the experiment `<problem>-monitoring`.

    A window of time is the same whichever table shows it, and says so where that was another one before; a number of
    rows means something in one table only, so that each table has its own windows, and a course of its own.
    """

    def __init__(
        self, version: Version, profile: Profile, policy: Policy, watched: Watched
    ) -> None:
        self.version, self.profile, self.policy, self.watched = version, profile, policy, watched
        self.client = MlflowClient()
        problem = profile.reference.problem
        self.problem, self.about = problem, f"{version.name}/{version.number}"
        self.table = str(Path(watched.source).resolve())
        self.is_by_rows = isinstance(windows.length(profile.reference.window), int)
        self.experiment = kept_run.experiment_of(problem.name)

    def keep(self, judged: list[Judged]) -> list[Kept]:
        """Keep what was found; a window that is as it was is left alone. Of two at once the second finds it kept."""
        with alone(f"monitor-{self.version.name}"):
            return self._keep(judged)

    def _keep(self, judged: list[Judged]) -> list[Kept]:
        runs = self._runs([COURSE, *(each.window.name for each in judged)])
        parent = runs[COURSE]
        kept = []
        for step, each in enumerate(judged):
            # pictures take a second: of an alarm's first window and of the last one
            begins = each.status in GRAVE and (not step or each.status != judged[step - 1].status)
            drawn = step == len(judged) - 1 or begins
            kept.append(self._window(each, runs[each.window.name], step, drawn))
        # not by what is new: a kill may have come between the windows and their course
        content = _digest([_content(each) for each in judged])
        if parent.info.status != "FINISHED" or parent.data.tags.get(CONTENT) != content:
            self._course(judged, parent.info.run_id, content)
        return kept

    def _runs(self, names: list[str]) -> dict[str, Run]:
        """{window: its run}, made where there is none; two commands at once make each once."""
        with registry.locked(f"monitor-{self.version.name}"):
            found = {
                run.data.tags[WINDOW]: run
                for run in all_runs(
                    self.client, tags={VERSION: self._key()}, experiments=[self.experiment]
                )
                if WINDOW in run.data.tags
            }
            for name in names:
                if name not in found:
                    found[name] = self._create(name, found.get(COURSE))
        return found

    def _key(self) -> str:
        """What the runs of its windows have in common."""
        told = f" {self.table}" if self.is_by_rows else ""
        return f"{self.about} {self.version.run_id}{told}"

    def _called(self, window: str) -> str:
        """The name of the run of a `window`."""
        told = f" of {Path(self.table).name}" if self.is_by_rows else ""
        return f"{self.about} {window}{told}"

    def _create(self, name: str, parent: Run | None) -> Run:
        tags = liveness.claim() | {
            VERSION: self._key(),
            WINDOW: name,
            TABLE: self.table,
            "mlflow.user": identity.user(),
        }
        tags |= {"mlflow.parentRunId": parent.info.run_id} if parent else {}
        return self.client.create_run(self.experiment, tags=tags, run_name=self._called(name))

    def _window(self, each: Judged, run: Run, step: int, drawn: bool) -> Kept:
        content, tags = _content(each), run.data.tags
        run_id, before = run.info.run_id, tags.get(STATUS, "")
        of_other = before and tags.get(TABLE, self.table) != self.table
        kept = Kept(each, run_id, True, before, tags[TABLE] if of_other else "")
        if run.info.status == "FINISHED" and tags.get(CONTENT) == content:
            return replace(kept, is_new=False)
        if kept.other and not each.rows:  # a table without this week says nothing of it
            return kept
        if run.info.status == "FINISHED":  # while it is written again
            self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in liveness.claim().items()])
        with (
            tempfile.TemporaryDirectory() as folder
        ):  # each file by itself asks the store for its run
            self._write(Path(folder), each, self._pictures(each) if drawn else {})
            self.client.log_artifacts(run_id, folder)
        # last, so that what a kill left half done is done again
        now = {STATUS: each.status, liveness.NOTE: self._note(kept), CONTENT: content}
        now[TABLE] = self.table
        self.client.log_batch(
            run_id, metrics=list(_metrics(each, step)), tags=[RunTag(k, v) for k, v in now.items()]
        )
        self._finish(run_id, f"{self._called(each.window.name)} {each.status}")
        return kept

    def _write(
        self, folder: Path, each: Judged, pictures: "dict[str, tuple[course.Figure, str]]"
    ) -> None:
        """Write the files of a window into `folder`: its page, its tables, its pictures."""
        inside = []
        for name, (figure, words) in pictures.items():
            figure.savefig(folder / f"{name}.png", dpi=80)
            inside.append(_picture((folder / f"{name}.png").read_bytes(), words))
        tables = {"columns": each.drift.columns, "slices": each.slices}
        files = {f"{name}.csv": t.to_csv(index=False) for name, t in tables.items()}
        if each.slices.empty:
            del files["slices.csv"]
        for name, text in (files | {"window.html": self.page(each, inside)}).items():
            (folder / name).write_text(text, "utf-8")

    def _pictures(self, each: Judged) -> "dict[str, tuple[course.Figure, str]]":
        """{name of a file: (figure, what it shows in words)} for a window that is news."""
        found, reference = {}, self.profile.reference
        if each.status in GRAVE and len(each.drift.columns):
            columns = [name for name in each.drift.columns.column if name in reference.rows]
            names = list(dict.fromkeys(columns))[: course.MOST]
            figure = course.moved(reference.rows, each.frame, names, reference.words)
            words = f"The values of {', '.join(names)} in this window beside the reference's"
            found["moved"] = figure, words
        if len(each.both):
            words = (
                "What the model said, in ten groups, beside what came: in the mean "
                + ", ".join(f"{name} {number(float(each.both[name].mean()))}" for name in each.both)
            )
            found["calibration"] = course.calibration(each.both), words
        return found

    def _finish(self, run_id: str, title: str) -> None:
        """Let the run be finished, whatever was said of it when a killed command had left it."""
        liveness.set_status(self.client, run_id, "FINISHED", title)
        run = self.client.get_run(run_id)
        liveness.forget(self.client, run)
        for tag in {liveness.CLOSED, liveness.ERROR} & run.data.tags.keys():
            self.client.delete_tag(run_id, tag)

    def _note(self, kept: Kept) -> str:
        each, told = kept.judged, kept.told_before.replace(
            "before:", "before, with other labels or rows:"
        )
        lines = [f"**{each.status}**{told}", *(f"- {text}" for text in each.sentences)]
        lines += [
            f"{self.about}, {each.rows:,} rows of {self.watched.source}; the page: `window.html`"
        ]
        return "\n".join(lines)[:4900]

    def _course(self, judged: list[Judged], run_id: str, content: str) -> None:
        """The course of the version: metrics by window, which the UI draws, and a picture."""
        points = [
            Metric(f"course/{m.key}", m.value, _moment(each), step)
            for step, each in enumerate(judged)
            for m in _metrics(each, step)
            if m.key in ("p", "loss", SAID, CAME, "evidence", "alarm", "score")
        ]
        for start in range(0, len(points), 900):
            self.client.log_batch(run_id, metrics=points[start : start + 900])
        self.client.log_figure(run_id, self.figure(judged), "course.png")
        self.client.log_text(run_id, as_table(judged).to_csv(index=False), "windows.csv")
        self.client.set_tag(
            run_id, liveness.NOTE, "\n".join(f"- {j.sentence}" for j in judged[-12:])[:4900]
        )
        self.client.set_tag(run_id, CONTENT, content)
        self.client.set_tag(run_id, TABLE, self.table)
        self._finish(run_id, self._called(COURSE))

    def figure(self, judged: list[Judged]) -> "course.Figure":
        """The course as a figure."""
        reference = self.profile.reference
        loss = asking.loss_name(self.problem, reference.scale)
        table, metric = as_table(judged), self.problem.metric.name
        return course.course(table, self.policy.level, reference.bound, metric, loss)

    def page(self, each: Judged, pictures: Sequence[str] = ()) -> str:
        """A page for people: the verdict, why, which columns, the metrics, the slices, pictures with their words."""
        metrics = pd.DataFrame(sorted(each.metrics.items()), columns=["metric", "value"])
        notes = [*self.profile.notes, *self.watched.notes]
        parts = [
            f"<h1>{html.escape(self.about)}, window {html.escape(each.window.name)}: {each.status}</h1>",
            f"<p>{each.rows:,} rows of {html.escape(self.watched.source)}</p>",
            _list(each.sentences),
            _list(notes) if notes else "",
            "<h2>Columns</h2><p>effect: the share of rows that has moved; usual, most: of reference windows</p>",
            _table(each.drift.columns),
            *pictures,
            f"<h2>Metrics</h2>{_table(metrics)}" if len(metrics) else "",
            f"<h2>Slices</h2>{_table(each.slices)}" if len(each.slices) else "",
        ]
        return f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{"".join(parts)}'


STYLE = (
    "body{font:15px sans-serif;color:#2B2F33;max-width:60em;margin:2em auto}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;border-bottom:1px solid #E6E8EA;text-align:left}"
    "img{max-width:100%}"
)


def _list(texts: "list[str] | tuple[str, ...]") -> str:
    return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"


def _picture(drawn: bytes, words: str) -> str:
    """A picture within the page: MLflow shows a page alone, without the files beside it."""
    inside = base64.b64encode(drawn).decode()
    return f'<p><img alt="{html.escape(words)}" src="data:image/png;base64,{inside}"></p>'


def _table(frame: pd.DataFrame) -> str:
    return frame.head(ROWS).to_html(index=False, float_format=lambda v: number(float(v)), border=0)


def _metrics(each: Judged, step: int) -> Iterator[Metric]:
    """What is logged of a window, with its end as the time and its number as the step."""
    found = {"rows": each.rows, "p": each.drift.p, "strange": each.strange, "alarm": each.alarm}
    found |= {"labelled": each.labelled, "evidence": each.evidence, "breaches": len(each.breaches)}
    found |= {
        name if name in ("loss", SAID, CAME) else f"metric/{name}": value
        for name, value in each.metrics.items()
    }
    if each.score is not None:
        found |= dict(zip(("score", "score_low", "score_high"), each.score))
    found["largest_effect"] = each.drift.columns.effect.max() if len(each.drift.columns) else 0.0
    for name, value in found.items():
        yield Metric(name, float(value), _moment(each), step)


def _moment(each: Judged) -> int:
    """When the window ends, in milliseconds."""
    return 0 if pd.isna(each.window.end) else int(each.window.end.timestamp() * 1000)


def _content(each: Judged) -> str:
    told = [
        each.rows,
        each.status,
        each.sentences,
        each.drift.p,
        each.labelled,
        sorted(each.metrics.items()),
    ]
    return _digest(told)


def _digest(told: list[Any]) -> str:
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]


def as_table(judged: list[Judged]) -> pd.DataFrame:
    """A row a window: name, status, rows, p, loss, score with its interval, the verdict in words."""
    nothing = (float("nan"),) * 3
    rows = [
        {
            "name": each.window.name,
            "status": each.status,
            "rows": each.rows,
            "p": each.drift.p,
            **{name: each.metrics.get(name, float("nan")) for name in ("loss", SAID, CAME)},
            **dict(zip(("score", "low", "high"), each.score or nothing)),
            "evidence": each.evidence,
            "sentence": "; ".join(each.sentences),
        }
        for each in judged
    ]
    columns = [
        "name",
        "status",
        "rows",
        "p",
        "loss",
        SAID,
        CAME,
        "score",
        "low",
        "high",
        "evidence",
        "sentence",
    ]
    return pd.DataFrame(rows, columns=columns)


def sentences(kept: list[Kept]) -> list[str]:
    """The verdicts in a line each; many windows one after another that hold no row are one line."""
    told: list[str] = []
    for rows, several in itertools.groupby(kept, key=lambda each: each.judged.rows > 0):
        group = list(several)
        if rows or len(group) < EMPTY:
            told += [f"{each.judged.sentence}{each.told_before}" for each in group]
            continue
        first, last = group[0].judged, group[-1].judged
        stays = ", and what another table said before stays" * any(each.other for each in group)
        told.append(
            f"{first.window.name} to {last.window.name} {first.status}: no rows in {counted(len(group), 'window')}: "
            f"nothing to judge{stays}"
        )
    return told


def as_dict(kept: list[Kept]) -> list[dict]:
    """What was found, for programs."""
    return [
        {
            "window": each.judged.window.name,
            "status": each.judged.status,
            "sentences": list(each.judged.sentences),
            "rows": each.judged.rows,
            "p": each.judged.drift.p,
            "labelled": each.judged.labelled,
            "metrics": each.judged.metrics,
            "run_id": each.run_id,
            "is_new": each.is_new,
            "before": each.before,
            "before_of": each.other,
        }
        for each in kept
    ]


def keep_quality(version: Version, profile: Profile, policy: Policy, measured: Quality) -> str:
    """The id of a new run that keeps how often the watch over `version` errs."""
    problem = profile.reference.problem
    rate, low, high = measured.false_alarms
    metrics = {
        "false_alarms_in_100": rate,
        "low": low,
        "high": high,
        "budget": 100 / measured.budget,
        "false_harm_in_100": measured.false_harm[0],
    }
    about = f"{version.name}/{version.number}"
    params = {"version": about, "window": profile.reference.window, "rule": str(policy.rule)}
    params |= {"level": policy.level, "streams": measured.streams, "windows": measured.windows}
    files = {"quality.csv": measured.table()}
    return _kept(
        problem.name, f"calibration of {about}", measured.sentence(), params, metrics, files
    )


def keep_backtest(replayed: Replayed, params: dict[str, Any]) -> str:
    """The id of a new run that keeps a replayed history: its course by policy, tables, picture."""
    name = replayed.problem.name
    files = {"policies.csv": replayed.table, "course.csv": replayed.course}
    metrics = {
        f"{row['policy'].replace(' ', '_')}/{key}": float(row[key])
        for row in replayed.table.to_dict("records")
        for key in ("loss", "score", "cost", "gain", "trainings")
    }
    run_id = _kept(name, f"backtest of {name}", replayed.sentence(), params, metrics, files)
    client, number_of = MlflowClient(), {n: i for i, n in enumerate(replayed.windows)}
    points = [
        Metric(
            f"course/{row['policy'].replace(' ', '_')}", row["score"], 0, number_of[row["window"]]
        )
        for row in replayed.course.to_dict("records")
        if np.isfinite(row["score"])
    ]
    for start in range(0, len(points), 900):
        client.log_batch(run_id, metrics=points[start : start + 900])
    client.log_figure(run_id, backtest.as_figure(replayed), "backtest.png")
    return run_id


def _kept(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    problem: str,
    name: str,
    note: str,
    params: dict[str, Any],
    metrics: dict[str, float],
    files: dict[str, pd.DataFrame],
) -> str:
    """The id of a new run in the problem's experiment of monitoring, with all this."""
    client = MlflowClient()
    with kept_run.opened(problem, name, note) as run_id:
        client.log_batch(
            run_id,
            metrics=[Metric(k, float(v), 0, 0) for k, v in metrics.items() if np.isfinite(v)],
            params=[Param(k, str(v)) for k, v in params.items()],
        )
        for file, table in files.items():
            client.log_text(run_id, table.to_csv(index=False), file)
    return run_id
