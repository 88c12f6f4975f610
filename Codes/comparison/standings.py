"""How the runs on a problem stand: those in the store, on the validation rows as the table has them now."""

from Codes.comparison import saved_view, verdict
from Codes.comparison.contestants import Choice
from Codes.judgement import validation
from Codes.problems import problem as problems
from Codes.runs import tracking


def of(problem: str, notebook: str = "") -> Choice:
    """The Choice among the finished runs of `notebook` (empty: of all) on the problem of that name or path.

    Of all notebooks the UI's saved view follows.
    """
    question, whole = problems.load(problem), problems.lasting(problem)
    runs = tracking.runs(problem, notebook or None)
    if runs.empty and whole != problem:
        runs = tracking.runs(whole, notebook or None)
    choice = verdict.choose(question, runs, validation.digest(question))
    if not notebook:
        saved_view.keep(choice, runs)
    return choice
