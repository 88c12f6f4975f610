"""How the runs on a problem stand: those in the store, on the validation rows as the table has them now."""

import pandas as pd

from Codes.comparison import saved_view, verdict
from Codes.comparison.contestants import Choice
from Codes.judgement import validation
from Codes.problems import problem as problems
from Codes.runs import tracking


def of(problem: str, notebook: str = "") -> Choice:
    """The Choice among the finished runs of `notebook` (empty: of all) on the problem of that name or path."""
    return _read(problem, notebook)[0]


def publish(problem: str, notebook: str = "") -> Choice:
    """As `of`; MLflow's saved view of the runs then shows them, too: for where runs were made."""
    choice, runs = _read(problem, notebook)
    saved_view.keep(choice, runs)
    return choice


def _read(problem: str, notebook: str) -> tuple[Choice, pd.DataFrame]:
    """(the Choice, the runs that it was made among)."""
    question, whole = problems.load(problem), problems.lasting(problem)
    runs = tracking.runs(problem, notebook or None)
    if runs.empty and whole != problem:
        runs = tracking.runs(whole, notebook or None)
    return verdict.choose(question, runs, validation.digest(question), problem), runs
