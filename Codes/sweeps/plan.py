"""What a sweep is to do, and one trial of it: a point, run once for each seed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TYPE_CHECKING

from Codes.fingerprints import fingerprint
from Codes.ground import labels
from Codes.ground.errors import WorkbookError
from Codes.notebook_files import parameters
from Codes.runs import tracking
from Codes.sweeps.space import Point, Space
from Codes.trial_workers.worker import Facts, Options

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass
class Plan:  # pylint: disable=too-many-instance-attributes
    """What a sweep is to do; `objectives` are (metric, direction), `trials` None means all points of the grid."""

    path: Path
    space: Space
    objectives: list[tuple[str, str]]
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
    limits: Options = field(default_factory=Options)
    scope: str | None = None  # the parent run, once it is there

    def key(self) -> str:
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

    def where(self) -> str:
        """The notebook's path, as it is in any checkout."""
        return fingerprint.located(self.path)

    def wanted(self) -> int:
        """How many trials there are to be; 0 where nothing tells, which the command refuses."""
        return self.trials or self.space.size() or 0

    def values(self, point: Point, number: int) -> dict[str, Any]:
        """The parameters at `point` of the repetition `number`, from 0."""
        values = self.space.values(point)
        if self.seeds > 1:
            values["seed"] = self.first_seed() + number
        return values

    def parts(self, notebook: "NotebookNode", point: Point, number: int) -> dict[str, str]:
        """The fingerprint's parts of the run of `notebook` (as it was read) that `values` tells of."""
        values = parameters.check(self.space.declared, self.values(point, number), self.path.name)
        return fingerprint.parts(notebook, self.path, values, self.kernel, self.scope)

    def best(self, trials: Iterable["Trial"], objective: int = 0) -> "Trial | None":
        """The one of `trials` that is best by the objective of that number; None where none has finished."""
        sign = 1 if self.objectives[objective][1] == "maximize" else -1
        finished = [(sign * trial.values[objective], trial) for trial in trials if trial.values]
        return max(finished, key=itemgetter(0), default=(0.0, None))[1]

    def scores(self, values: Iterable[float]) -> str:
        """The `values` of the objectives in words, each behind its metric."""
        pairs = zip(self.objectives, values)
        return ", ".join(
            f"{metric} {labels.number(float(value), 5)}" for (metric, _), value in pairs
        )

    def watched(self) -> str:
        """The metric that the pruner looks at."""
        return self.watch or self.objectives[0][0]

    def short_names(self) -> dict[str, str]:
        """{flat name: short name} of what varies."""
        return short_names(self.space.varies)

    def first_seed(self) -> int:
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
    point: Point
    asked: Any = None  # Optuna's trial; None of one that an earlier session has ended
    prints: list[str] = field(default_factory=list)
    facts: dict[int, Facts] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)
    losses: Counter[int] = field(default_factory=Counter)
    state: str = "RUNNING"
    values: list[float] | None = None
    reused: bool = False
    reported: int = -1

    def name(self) -> str:
        """The varied values by their short names, which a table of runs has room for."""
        return self.typed(short_names(self.point))

    def typed(self, names: Mapping[str, str] | None = None) -> str:
        """The varied values by their `names`, as a rule as they are typed."""
        pairs = [(k, tracking.text_of(_rounded(v))) for k, v in self.point.items()]
        return " ".join(f"{(names or {}).get(name, name)}={text}" for name, text in pairs)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """{name: its last part, or all of it where two would be alike}."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last)}


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
