"""The search of a sweep: an Optuna study that proposes points, and is told what became of them.

Optuna: Akiba et al., KDD 2019, https://optuna.readthedocs.io

The study lies in memory, and is made anew from the runs of the trials: MLflow's storage for Optuna would make a second
run of each trial beside the notebook's own, and Optuna's knows no fingerprints, by which an edit makes a point due
again. Optuna's is used where several machines share one search (--storage).
"""

import inspect
import json
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TYPE_CHECKING

from Codes.ground.errors import WorkbookError, first_line, nearest
from Codes.runs import liveness
from Codes.sweeps.space import Point

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import Trial
    from Codes.sweeps.plan import Plan

GRID = "grid"
OWNER = "workbook.owner"  # of a trial of a shared study: the process that executes it
WARM_UP = 11  # trials after which every sampler has begun to sample by its own method


def samplers() -> dict[str, Any]:
    """{name: class} of Optuna's samplers, by their names in lower case without the ending."""
    # the grid is ours, in its order
    return _classes("samplers", "Sampler", ("Base", "PartialFixed", "Grid", "BruteForce"))


def pruners() -> dict[str, Any]:
    """{name: class} of Optuna's pruners that need no argument."""
    return _classes("pruners", "Pruner", ("Base", "Nop", "Patient", "Percentile", "Threshold"))


def _classes(module: str, ending: str, without: tuple[str, ...]) -> dict[str, Any]:
    import optuna

    found = getattr(optuna, module)
    names = [n for n in found.__all__ if n.endswith(ending) and not n.startswith(without)]
    return {name.removesuffix(ending).lower(): getattr(found, name) for name in names}


def _chosen(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise WorkbookError(
            f"there is no {kind} '{name}'; there are {', '.join(known)}.{nearest(name, known)}"
        )
    return known[name]


def sampler(name: str, seed: int) -> "BaseSampler":
    """Optuna's sampler `name`, seeded; a WorkbookError names those there are."""
    kind = _chosen("sampler", name, {GRID: None, **samplers()}) or samplers()["random"]
    options = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are marked experimental
        return kind(**options)


def try_out(name: str, prune: str, storage: str | None) -> None:
    """Refuse at once what would fail in the middle: an unknown name, a package or a storage that is not there."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner(prune)
    spread: "dict[str, BaseDistribution]" = {"x": optuna.distributions.FloatDistribution(0, 1)}
    try:
        study = optuna.create_study(sampler=sampler(name, 0))
        for i in range(WARM_UP):
            study.add_trial(
                optuna.trial.create_trial(value=i, params={"x": i / WARM_UP}, distributions=spread)
            )
        study.ask(spread)
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise WorkbookError(
            f"the sampler {name} needs a package that is not installed: pip install {package}."
        ) from error
    if storage:
        open_storage(storage)


def open_storage(storage: str | None) -> "BaseStorage | None":
    """Optuna's storage at the address `storage`; None, in memory, for none."""
    import optuna

    try:
        return optuna.storages.get_storage(storage) if storage else None
    except Exception as error:  # pylint: disable=broad-exception-caught
        # sqlalchemy's, a driver's, redis', the system's
        reason = first_line(error)
        raise WorkbookError(
            f"--storage {storage} cannot be used ({reason}); give one such as sqlite:////path/search.db."
        ) from error


def pruner(name: str) -> "BasePruner | None":
    """Optuna's pruner `name`; None for an empty name."""
    return _chosen("pruner", name, pruners())() if name else None


class Search:
    """The study of a Plan; points come from the grid of its space, or from Optuna's sampler, which `seed` seeds.

    `name` tells the study from others in a storage that is shared.
    """

    def __init__(self, plan: "Plan", seed: int, name: str) -> None:
        import optuna

        self.space, self.is_shared = plan.space, bool(plan.storage)
        self.grid = iter(plan.space.grid()) if plan.sampler == GRID else None
        self.seen: set[str] = set()
        self.distributions = plan.space.distributions()
        self.study = optuna.create_study(
            directions=[
                optuna.study.StudyDirection[direction.upper()] for _, direction in plan.objectives
            ],
            sampler=sampler(plan.sampler, seed),
            pruner=pruner(plan.pruner) or optuna.pruners.NopPruner(),
            storage=open_storage(plan.storage),
            study_name=name if plan.storage else None,
            load_if_exists=True,
        )

    def ask(self) -> "tuple[Trial, Point] | None":
        """(Optuna's trial, its point) of a new trial; None where the grid has no point left."""
        if self.grid is not None:
            point = next((p for p in self.grid if _key(p) not in self.seen), None)
            return None if point is None else self.again(point)
        trial, point = self._take()
        self.seen.add(_key(point))
        return trial, point

    def _take(self) -> "tuple[Trial, Point]":
        trial = self.study.ask(self.distributions)
        if self.is_shared:
            trial.set_user_attr(OWNER, liveness.me())
        return trial, self.space.decode(trial.params)

    def again(self, point: Point) -> "tuple[Trial, Point]":
        """(Optuna's trial, its point) of a `point` that is chosen already; where it is shared, perhaps another's."""
        self.seen.add(_key(point))
        self.study.enqueue_trial(self.space.encode(point))
        return self._take()

    def orphans(self, closed: Collection[int]) -> list[Point]:
        """Points of a shared study whose process died; `closed` are the numbers of trials whose runs were closed."""
        import optuna

        points = []
        for trial in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            owner = trial.user_attrs.get(OWNER)
            if trial.number in closed or owner and liveness.is_gone(owner):
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                points.append(self.space.decode(trial.params))
        return points

    def count(self) -> int:
        """How many trials of a shared study count: failed ones for as long as whoever has tried them is at work."""
        owners = Counter(
            t.user_attrs.get(OWNER) if t.state.name == "FAIL" else ""
            for t in self.study.get_trials(deepcopy=False)
        )
        return sum(n for who, n in owners.items() if who == "" or who and not liveness.is_gone(who))

    def remember(
        self, point: Point, values: Sequence[float] | None, course: Mapping[int, float]
    ) -> None:
        """Add a trial that an earlier session has ended; without `values`: pruned after `course`, {step: value}."""
        import optuna

        self.seen.add(_key(point))
        states = optuna.trial.TrialState
        self.study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if values else states.PRUNED,
                values=values,
                intermediate_values=dict(course),
                params=self.space.encode(point),
                distributions=self.distributions,
            )
        )

    def tell(
        self, trial: "Trial", values: Sequence[float] | None = None, pruned: bool = False
    ) -> None:
        """Tell the study how `trial` ended; without values and not pruned: it failed."""
        import optuna

        if pruned:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif values is None:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, values)


def _key(point: Point) -> str:
    return json.dumps(point, sort_keys=True)
