"""Who is compared: finished runs, the settings that they try, and what was chosen among these."""

import math
from dataclasses import dataclass, field
from typing import Any

from Codes.judgement.scored import Scored

ALL = math.inf  # rows
# why runs stand apart
NO_SCORE, OTHER_ROWS, OTHER_METRIC = (
    "no score on validation rows: by a notebook of your own, or of before",
    "other validation rows: the table, or how it is split, has changed",
    "another metric decided",
)


@dataclass(frozen=True, eq=False)
class Run:  # pylint: disable=too-many-instance-attributes
    """A finished run with its score; what it did not log is None, or NaN.

    Args:
        setting: its parameters but seed and rows, the hyperparameters among them.
        rows: to train on, drawn of all; ALL where none were drawn.
        code: of its code, data and packages, as far as its fingerprint tells.
        kilobytes: the size of its saved model; seconds: that it took, fit_seconds of these in training.
        row_ms, row_ms_of_1000: milliseconds of an answer to a row asked alone, and for each of 1,000 asked at once.
        train: its score on training rows.
        trial, sweep: its number in a sweep, and that sweep's run.
        whole: made by the runner, so that it has what registering needs.
    """

    run_id: str
    scored: Scored
    notebook: str = ""
    setting: dict[str, Any] = field(default_factory=dict)
    seed: str = ""
    rows: float = ALL
    code: str = ""
    kilobytes: float = math.nan
    seconds: float = math.nan
    fit_seconds: float = math.nan
    row_ms: float = math.nan
    row_ms_of_1000: float = math.nan
    train: float = math.nan
    trial: str = ""
    sweep: str = ""
    whole: bool = True


@dataclass(frozen=True, eq=False)
class Contestant:
    """One setting: its runs, which differ in their seeds, and how it stands.

    Args:
        run: that stands for it: the one of the median score, never the luckiest.
        scored: the mean of its seeds.
        known: whether there is a score with an error.
        close: whether it cannot be told from the best.
        beats: whether it beats the baseline by more than chance gives the best of all of them.
        reach: to each side of its difference to the best, all intervals holding at once 95 times of 100.
    """

    run: Run
    runs: tuple[Run, ...]
    scored: Scored
    known: bool = False
    close: bool = False
    beats: bool = False
    reach: float = math.nan

    @property
    def size(self) -> float:
        """The size of its model in kB; infinite where it is not known."""
        return ALL if math.isnan(self.run.kilobytes) else self.run.kilobytes


@dataclass(frozen=True, eq=False)
class Apart:
    """A run that is not ranked with the others, and why."""

    run_id: str
    why: str


@dataclass(frozen=True, eq=False)
class Choice:  # pylint: disable=too-many-instance-attributes
    """What is recommended among `contestants` (the best first), and what is known of it.

    Args:
        typed: the problem as a command takes it: its name, or the path of its file.
        direction: of the metric: maximize or minimize.
        taken: the contestant to take; None where none is.
        near: how many cost next to nothing against the best, itself among them.
        alike: how many of these were trained on as many rows, so that the size of the model decides.
        optimism: by how much the best looks better than it is, for having been chosen (over 0); NaN: not known.
        unfit: contestants that would have been taken, and why they were not.
        reasons: what to take and why, what is not known, and what stands apart, in sentences.
    """

    problem: str
    metric: str
    direction: str
    typed: str
    contestants: tuple[Contestant, ...] = ()
    taken: Contestant | None = None
    near: int = 0
    alike: int = 0
    optimism: float = math.nan
    apart: tuple[Apart, ...] = ()
    unfit: tuple[tuple[Contestant, str], ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def recommended(self) -> str | None:
        """The id of the run to take."""
        return self.taken.run.run_id if self.taken else None

    @property
    def close(self) -> list[Contestant]:
        """The contestants that cannot be told from the best, the best among them."""
        return [each for each in self.contestants if each.close]
