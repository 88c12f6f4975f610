"""The runs of a sweep in MLflow: one parent, found again by its key, and its children, which tell what was done."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from Codes.fingerprints import fingerprint
from Codes.ground import paths
from Codes.ground.errors import WorkbookError, counted
from Codes.notebook_files import parameters
from Codes.running import engine
from Codes.runs import identity, liveness, tracking
from Codes.runs.nested_runs import OWNED
from Codes.stores.store import all_runs
from Codes.sweeps.plan import Plan, Trial
from Codes.sweeps.space import Point
from Codes.trial_workers import worker

if TYPE_CHECKING:
    from nbformat import NotebookNode

SWEEP = "mlflow.workbook.sweep"  # on the parent: the notebook's stem
KEY = "mlflow.workbook.sweep.key"
TRIAL, POINT, TASK = (
    "mlflow.workbook.sweep.trial",
    "mlflow.workbook.sweep.point",
    "mlflow.workbook.sweep.task",
)
REUSED = "mlflow.workbook.sweep.reused."  # + the trial's number, on the parent: a point that needed no run of its own


class Family:
    """The parent run of `plan` (a Plan) and its children; `say` tells the user a line."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.say, self.client = plan, say, MlflowClient()
        self.parent: Run  # from `open` on
        self.is_new = True

    @property
    def run_id(self) -> str:
        """The parent's."""
        return self.parent.info.run_id

    def open(self) -> None:
        """Find the parent of this sweep, or make it."""
        space = self.plan.space
        values = parameters.check(space.declared, space.fixed, self.plan.path.name)
        experiment = tracking.experiment_of(self.plan.path, values)
        for run_id in liveness.close_dead_runs():
            self.say(f"closed the run {run_id} as KILLED: its runner is gone")
        earlier = None if self.plan.force else self._earlier(experiment)
        self.is_new = earlier is None
        if earlier:
            self._take_over(earlier)
        else:
            self.parent = self._make(experiment)
            if self.plan.storage:
                self._agree(experiment)

    def _same(self, experiment: str) -> list[Run]:
        same = {KEY: self.plan.key()}
        return list(all_runs(self.client, experiments=[experiment], tags=same))

    def _earlier(self, experiment: str) -> Run | None:
        return next(iter(self._same(experiment)), None)

    def _agree(self, experiment: str) -> None:
        """Of commands that share a search and begin at once, let all take the parent that is first."""
        going = [r for r in self._same(experiment) if r.info.status == "RUNNING"]
        first = min(going, key=lambda r: (r.info.start_time, r.info.run_id), default=self.parent)
        if first.info.run_id != self.run_id and not self.plan.force:
            self.client.delete_run(self.run_id)
            self.parent, self.is_new = first, False

    def _take_over(self, earlier: Run) -> None:
        if earlier.info.status == "RUNNING" and not self.plan.storage:
            where = liveness.owner_of(earlier).get("host")
            raise WorkbookError(
                f"this sweep is running already (run {earlier.info.run_id} on {where}); "
                "wait for it, end it, or share the search by --storage."
            )
        self.parent = earlier
        if earlier.info.status != "RUNNING":
            self.claim()
        self._wait_for_the_living()

    def claim(self) -> None:
        """Make the parent this process's own, and running again."""
        self.client.update_run(self.run_id, status="RUNNING")
        tags = [RunTag(k, v) for k, v in liveness.claim().items()]
        self.client.log_batch(self.run_id, tags=tags)
        tags_now = self.client.get_run(self.run_id).data.tags.keys()
        for tag in {liveness.CLOSED, liveness.ERROR} & tags_now:
            self.client.delete_tag(self.run_id, tag)
        self.parent = self.client.get_run(self.run_id)

    def _wait_for_the_living(self) -> None:
        """Let trials of an earlier attempt end that are still being executed or recorded, then close them."""
        if self.plan.storage:  # others may be at work
            return
        end, said = time.monotonic() + worker.PARTING + 5, False
        while (living := self.children("RUNNING")) and time.monotonic() < end:
            if not said:
                self.say(f"{counted(len(living), 'trial')} of the earlier attempt still to end")
            said = True
            time.sleep(0.5)
            liveness.close_dead_runs()
        for run in living:
            liveness.close(self.client, run)

    def _make(self, experiment: str) -> Run:
        plan = self.plan
        own = {SWEEP: plan.path.stem, KEY: plan.key()}
        tags = identity.tags(plan.path) | liveness.claim() | own
        tags.pop(identity.NOTEBOOK)  # it is no execution of the notebook itself
        if OWNED in os.environ:  # started by a notebook
            tags[MLFLOW_PARENT_RUN_ID] = os.environ[OWNED]
        varied = ", ".join(name.rpartition(".")[2] for name in plan.space.varies) or "seeds"
        run = engine.create(f"{plan.path.stem} sweep: {varied}"[:250], experiment, tags)
        facts = {"sampler": plan.sampler, "seeds": plan.seeds, "pruner": plan.pruner or "none"}
        facts |= {"notebook": plan.path.stem, "points": plan.space.size() or "infinitely many"}
        facts |= {f"objective {metric}": direction for metric, direction in plan.objectives}
        params = [Param(k, str(v)) for k, v in facts.items()]
        self.client.log_batch(run.info.run_id, params=params)
        self.client.log_text(run.info.run_id, plan.space.text(), "space.yaml")
        return run

    def children(self, status: str | None = None) -> list[Run]:
        """The runs of the trials, those of `status` only where one is given."""
        where = f"attributes.status = '{status}'" if status else ""
        mine = {MLFLOW_PARENT_RUN_ID: self.run_id}
        return list(all_runs(self.client, where, [self.parent.info.experiment_id], mine))

    def points(self, children: list[Run]) -> list[tuple[int, Point]]:
        """[(number, point)] of the trials that there were, in order: of the children's tags, and of the parent's."""
        points: dict[int, Point] = {}
        for run in children:
            if TRIAL in run.data.tags:
                points[int(run.data.tags[TRIAL])] = json.loads(run.data.tags[POINT])
        for tag, text in self.parent.data.tags.items():
            if tag.startswith(REUSED):
                points[int(tag.removeprefix(REUSED))] = json.loads(text)
        return sorted(points.items())

    def say_what_changed(
        self, children: list[Run], notebook: "NotebookNode", known: Collection[str]
    ) -> None:
        """Say what has changed since the finished ones of `children` were run, and how many that touches."""
        touched, changed = 0, Counter()
        for run in children:
            if run.info.status == "FINISHED" and TASK in run.data.tags:
                number = int(run.data.tags[TASK].partition(".")[2])
                now = self.plan.parts(notebook, json.loads(run.data.tags[POINT]), number)
                if fingerprint.of_parts(now) not in known:
                    touched += 1
                    changed.update(fingerprint.differences(fingerprint.parts_of(run), now))
        if touched:
            self.say(f"{', '.join(changed)} since: {touched} finished trials are run again")

    def tags_of(self, trial: Trial, repetition: int) -> dict[str, str]:
        """The tags of the child that runs the `repetition` of `trial`."""
        return {
            MLFLOW_PARENT_RUN_ID: self.run_id,
            TRIAL: str(trial.number),
            POINT: json.dumps(trial.point),
            TASK: f"{trial.number}.{repetition}",
        }

    def note_reused(self, trial: Trial) -> None:
        """Keep the point of a `trial` that needed no run of its own."""
        self.client.set_tag(self.run_id, f"{REUSED}{trial.number}", json.dumps(trial.point))

    def is_mine_to_close(self) -> bool:
        """Whether this process ends the parent: not where another that shares the search is alive and will."""
        run = self.client.get_run(self.run_id)
        if self.plan.storage and liveness.owner_of(run) != json.loads(liveness.me()):
            if run.info.status == "RUNNING" and liveness.is_alive(run):
                return False
            self.parent = run
            self.claim()
        return True


def lock(plan: Plan) -> FileLock:
    """A lock that one process of this checkout holds on the sweep of `plan`; a dead one's is free again."""
    folder = paths.ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    name = fingerprint.digest(os.environ["MLFLOW_TRACKING_URI"], plan.key())
    held = FileLock(folder / f"sweep-{name}.lock")
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise WorkbookError(
            "this sweep is running already, started from this folder; wait for it, end it, "
            "or share the search by --storage."
        ) from error
    return held
