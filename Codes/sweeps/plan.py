"""What a sweep is to do, and one trial of it: a point, run once for each seed."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from Codes.fingerprints import fingerprint
from Codes.ground.errors import WorkbookError
from Codes.notebook_files import parameters
from Codes.runs import tracking
from Codes.sweeps.space import Space


@dataclass
class Plan:  # pylint: disable=too-many-instance-attributes
    """What a sweep is to do; `objectives` are (metric, direction), `trials` None means all points of the grid."""

    path: Path
    space: Space
    objectives: list
    sampler: str = "grid"
    trials: int | None = None
    seeds: int = 1
    pruner: str = ""
    watch: str = ""
    retries: int = 0
    sampler_seed: int = 0
    storage: str | None = None
    force: bool = False
    memory: float | None = None
    kernel: str | None = None
    limits: dict = field(default_factory=dict)
    scope: str | None = None  # the parent run, once it is there

    def key(self):
        """What tells the same sweep given again: what it searches and how, not how long and where."""
        facts = [
            self.where(),
            self.space.text(),
            self.objectives,
            self.sampler,
            self.seeds,
            self.pruner,
        ]
        return fingerprint.digest(json.dumps(facts + [self.sampler_seed]))

    def where(self):
        """The notebook's path, as it is in any checkout."""
        return fingerprint.located(self.path)

    def wanted(self):
        """How many trials there are to be."""
        return self.trials or self.space.size()

    def values(self, point, number):
        """The parameters at `point` of the repetition `number`, from 0."""
        values = self.space.values(point)
        if self.seeds > 1:
            values["seed"] = self.first_seed() + number
        return values

    def parts(self, notebook, point, number):
        """The fingerprint's parts of the run of `notebook` (as it was read) that `values` tells of."""
        given = parameters.check(self.space.declared, self.values(point, number), self.path.name)
        return fingerprint.parts(notebook, self.path, given, self.kernel, self.scope)

    def best(self, trials, objective=0):
        """The one of `trials` that is best by the objective of that number; None where none has finished."""
        sign = 1 if self.objectives[objective][1] == "maximize" else -1
        finished = [trial for trial in trials if trial.values]
        return max(finished, key=lambda t: sign * t.values[objective], default=None)

    def watched(self):
        """The metric that the pruner looks at."""
        return self.watch or self.objectives[0][0]

    def short_names(self):
        """{flat name: short name} of what varies."""
        return short_names(self.space.varies)

    def first_seed(self):
        """The seed of the first repetition; a WorkbookError where the notebook has none to repeat with."""
        declared = {p.name: p for p in self.space.declared}
        if "seed" not in declared or "seed" in self.space.varies:
            why = "varies it already" if "seed" in declared else "has no parameter 'seed'"
            raise WorkbookError(
                f"--seeds {self.seeds}: the sweep of {self.path.stem} {why}; leave --seeds out."
            )
        first = self.space.fixed.get("seed", declared["seed"].default)
        if not isinstance(first, int) or isinstance(first, bool):
            raise WorkbookError(
                f"--seeds {self.seeds}: the default seed of {self.path.stem} is no whole number ({first!r}); "
                "name the first one: -p seed 0."
            )
        return first


@dataclass
class Trial:  # pylint: disable=too-many-instance-attributes
    """One point, run once for each seed: `prints` are the fingerprints of these runs, `facts` what came of each.

    `tries` and `losses` are how often each was tried, and how often its worker was lost.
    """

    number: int
    point: dict
    asked: object = None
    prints: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    tries: Counter = field(default_factory=Counter)
    losses: Counter = field(default_factory=Counter)
    state: str = "RUNNING"
    values: list | None = None
    reused: bool = False
    reported: int = -1

    def name(self):
        """The varied values by their short names, which a table of runs has room for."""
        return self.typed(short_names(self.point))

    def typed(self, names=None):
        """The varied values by their `names`, as a rule as they are typed."""
        pairs = [(k, tracking.text_of(_rounded(v))) for k, v in self.point.items()]
        return " ".join(f"{(names or {}).get(name, name)}={text}" for name, text in pairs)


def short_names(names):
    """{name: its last part, or all of it where two would be alike}."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last)}


def _rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value
