"""What the gate found: its checks, each with what was found and what is allowed, and the tables behind them."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from Codes.ground import labels

TABLES = ("metrics", "slices")
WORDS = ("metric", "column", "value")  # of these tables the columns that hold text


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it passed, what was found, what is allowed."""

    name: str
    passed: bool
    found: str
    allowed: str


@dataclass(frozen=True)
class Report:
    """What the gate found: its checks, the tables behind them, and what else is to be known (`notes`)."""

    checks: tuple[Check, ...]
    # a row a metric, and a group of rows: the candidate, the champion (of slices without one: the baseline), by how
    # much the candidate is better than that, and the interval of it, low to high; metrics have the baseline, too
    metrics: pd.DataFrame
    slices: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    @property
    def refusal(self) -> str:
        """What failed, with both numbers, in one line; empty where nothing did."""
        failed = [c for c in self.checks if not c.passed]
        return "; ".join(f"{c.name}: {c.found}, allowed: {c.allowed}" for c in failed)

    def table(self) -> pd.DataFrame:
        """The checks as a frame."""
        frame = pd.DataFrame([asdict(check) for check in self.checks])
        return frame.assign(passed=frame.passed.map({True: "✓", False: "✗"}))

    def markdown(self) -> str:
        """The whole report as Markdown."""
        parts = [("Checks", self.table()), ("Metrics", self.metrics), ("Slices", self.slices)]
        shown = [f"## {title}\n\n{as_markdown(frame)}" for title, frame in parts if len(frame)]
        page = [f"# Gate: {self.verdict.lower()}", self.checks_list(), *self.notes, *shown]
        return "\n\n".join(page) + "\n"

    @property
    def verdict(self) -> str:
        """Passed or refused, in one word."""
        return "Passed" if self.passed else "Refused"

    def summary(self) -> str:
        """The checks and the notes as Markdown without headings, for a page that has its own."""
        return "\n\n".join([as_markdown(self.table()), *self.notes])

    def checks_list(self) -> str:
        """The failed checks as a Markdown list, each with what was found and what is allowed."""
        failed = [c for c in self.checks if not c.passed]
        lines = [f"- ✗ **{c.name}**: {c.found} (allowed: {c.allowed})" for c in failed]
        passed = len(self.checks) - len(failed)
        return "\n".join([*lines, f"- ✓ {passed} of {len(self.checks)} checks passed"])

    def note(self, metric: str, version: str, against: str) -> str:
        """The verdict on `version` for the UI, in a few lines; `against` what it was held."""
        scored = self.metrics[self.metrics.metric == metric]
        score = "".join(f", {metric} {labels.score(value)}" for value in scored.candidate)
        lines = [f"**{self.verdict}**: {version}{score}, against {against}.", self.checks_list()]
        lines += [*self.notes, "The whole report: artifacts `gate.md`, `gate.png`."]
        return "\n\n".join(lines)[:5000]

    def as_json(self) -> str:
        """The whole report as JSON."""
        tables = {n: json.loads(getattr(self, n).to_json(orient="records")) for n in TABLES}
        checks = [asdict(check) for check in self.checks]
        whole = {"passed": self.passed, "checks": checks, "notes": self.notes, **tables}
        return json.dumps(whole, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """What `as_json` wrote."""
        whole = json.loads(text)
        return cls(
            checks=tuple(Check(**each) for each in whole["checks"]),
            metrics=_frame(whole["metrics"]),
            slices=_frame(whole["slices"]),
            notes=tuple(whole["notes"]),
        )


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(records)
    return frame.astype({name: float for name in frame if name not in (*WORDS, "rows")})


def as_markdown(frame: pd.DataFrame) -> str:
    """`frame` as a Markdown table, numbers as scores."""
    lines = [list(frame.columns), ["---"] * frame.shape[1]]
    lines += [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value).replace("|", "\\|")
    return labels.score(value) if math.isfinite(value) else ""
