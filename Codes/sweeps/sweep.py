"""A sweep: one notebook over many points, in parallel, one MLflow run a trial, under one parent run.

MLflow is its only memory. The parent's key tells the same command again, its children tell which points there were,
and fingerprints tell which of them need not be run again; so a sweep is resumed by giving the same command.
"""

import json
import math
import os
import statistics
import time
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, wait

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from Codes.fingerprints import fingerprint
from Codes.ground import labels, manifest
from Codes.ground.errors import WorkbookError, counted, first_line, nearest
from Codes.notebook_files import notebook_file
from Codes.running import engine, interruption, runner
from Codes.runs import liveness, tracking
from Codes.sweeps import sweep_report, sweep_runs
from Codes.sweeps.plan import Plan, Trial
from Codes.sweeps.progress import Progress
from Codes.sweeps.search import Search
from Codes.sweeps.space import Point
from Codes.sweeps.sweep_runs import Family, POINT, TASK
from Codes.trial_workers import worker
from Codes.trial_workers.pool import LOST, Pool, WorkerLost, free_memory
from Codes.trial_workers.worker import Facts, Options, Task

FIRST_GUESS = 500e6  # bytes that a trial takes, until one has ended
PATIENCE = 7  # HTTP tries of each call, some minutes: a server may be restarted under a sweep
RESERVE = 0.05  # the share of the memory that stays free
STALE_EVERY, PRUNE_EVERY = 5.0, 1.0  # seconds between two looks at what is under way


class Sweep:  # pylint: disable=too-many-instance-attributes
    """Executes a Plan with a pool of workers; `progress` shows how far it is."""

    def __init__(self, plan: Plan, pool: Pool, progress: Progress) -> None:
        self.plan, self.pool, self.progress = plan, pool, progress
        self.client = MlflowClient()
        self.trials: list[Trial] = []
        self.waiting: deque[tuple[Trial, int]] = deque()
        self.flying: dict[Future[Facts], tuple[Trial, int, Task, float]] = {}
        self.twins: dict[str, list[tuple[Trial, int]]] = {}  # fingerprint → who waits for its run
        self.family = Family(plan, progress.say)
        self.known: dict[str, Facts] = {}
        self.pruned_runs: dict[str, Run] = {}
        self.search: Search  # from `open` on
        self.lost = False
        self.untold: list[tuple[Trial, list[Metric]]] = []
        self.peak, self.slowed, self.looked, self.pruned_at = 0.0, False, 0.0, 0.0
        # steps of the watched metric's longest course: a pruner needs two to tell trials apart
        self.longest = 0
        self.notebook = notebook_file.read(plan.path)
        self.kernel = plan.kernel or runner.kernel_of(plan.path)

    def open(self) -> None:
        """Find this sweep's parent, or make it, and everything that is known of its points."""
        plan = self.plan
        self.family.open()
        plan.scope = self.family.run_id
        if not plan.force:
            finished = fingerprint.known(plan.path, self.family.parent.info.experiment_id)
            self.known = {print_: _facts(run) for print_, run in finished.items()}
        children = [] if self.family.is_new else self.family.children()
        self.pruned_runs = {
            run.data.tags.get(fingerprint.TAG, ""): run
            for run in children
            if engine.PRUNED in run.data.tags
        }
        self.family.say_what_changed(children, self.notebook, self.known)
        history = self.family.points(children)
        # another seed for each attempt, and for each that shares a search: they would propose the same points
        seed = plan.sampler_seed + len(history) + (os.getpid() if plan.storage else 0)
        self.search = Search(plan, seed, f"{plan.path.stem} {plan.key()}")
        if plan.storage:
            self._adopt_orphans(children)
        else:
            self._remember(history)

    def _adopt_orphans(self, children: list[Run]) -> None:
        """Run again what others who share the search began and will not end."""
        running = {run.data.tags[TASK] for run in children if run.info.status == "RUNNING"}
        closed = {run.data.tags[TASK] for run in children if liveness.closed_by(run)} - running
        for point in self.search.orphans({int(task.partition(".")[0]) for task in closed}):
            asked, point = self.search.again(point)
            self.trials.append(Trial(asked.number, point, asked, self._prints(point)))
            self._queue(self.trials[-1])

    def _parts(self, point: Point, repetition: int) -> dict[str, str]:
        return self.plan.parts(self.notebook, point, repetition)

    def _prints(self, point: Point) -> list[str]:
        """The fingerprints of the repetitions at `point`: taken once, so that an edit meanwhile parts no twins."""
        return [fingerprint.of_parts(self._parts(point, i)) for i in range(self.plan.seeds)]

    def _remember(self, history: list[tuple[int, Point]]) -> None:
        """Settle the trials of `history` that are known whole, and queue the others again, before any new one."""
        for number, point in history:
            trial = Trial(number, point, prints=self._prints(point), reused=True)
            self.trials.append(trial)
            if all(self._is_known(p) for p in trial.prints):
                for i, each in enumerate(trial.prints):
                    trial.facts[i] = self.known[each]
                trial.values, trial.state = self._mean(trial), "FINISHED"
                self.search.remember(point, trial.values, self._course(trial.facts[0]["run_id"]))
            elif self.plan.seeds == 1 and trial.prints[0] in self.pruned_runs:
                trial.facts[0], trial.state = _facts(self.pruned_runs[trial.prints[0]]), "PRUNED"
                self.search.remember(point, None, self._course(trial.facts[0]["run_id"]))
            else:
                trial.asked, trial.reused = self.search.again(point)[0], False
                self._queue(trial)
        done = sum(t.state != "RUNNING" for t in self.trials)
        if history:
            again = len(self.trials) - done
            self.progress.say(
                f"going on: {counted(done, 'trial')} done" + f", {again} to run again" * bool(again)
            )

    def _is_known(self, print_: str) -> bool:
        facts = self.known.get(print_)
        metrics = facts["metrics"] if facts else {}
        return all(math.isfinite(metrics.get(name, math.nan)) for name, _ in self.plan.objectives)

    # --- trials

    def _queue(self, trial: Trial) -> None:
        """Queue what is missing of `trial`; known repetitions are taken over."""
        for i, print_ in enumerate(trial.prints):
            if self._is_known(print_):
                trial.facts[i] = self.known[print_]
            elif print_ in self.twins:  # a sampler may propose a point that is under way
                self.twins[print_].append((trial, i))
            else:
                self.twins[print_] = []
                self.waiting.append((trial, i))

    def _propose(self) -> bool:
        """A new trial, where one is wanted still and the search has one."""
        if self._count() >= self.plan.wanted() or not (asked := self.search.ask()):
            return False
        number = (
            max((t.number for t in self.trials), default=-1) + 1
            if not self.plan.storage
            else asked[0].number
        )
        trial = Trial(number, asked[1], asked[0], self._prints(asked[1]))
        self.trials.append(trial)
        self._queue(trial)
        if len(trial.facts) == self.plan.seeds:
            self._reuse(trial)
        return True

    def _reuse(self, trial: Trial) -> None:
        trial.reused = True
        self.family.note_reused(trial)
        self._settle(trial)

    def _count(self) -> int:
        if not self.plan.storage:
            return len(self.trials)
        return self.search.count()

    def _fill(self) -> None:
        """Start trials as long as there is room."""
        while len(self.flying) < self.pool.capacity() and self._has_memory():
            if not self.waiting:
                if not self._propose():
                    return
                continue
            trial, i = self.waiting.popleft()
            task = self._task(trial, i)
            self.flying[self.pool.submit(task)] = (trial, i, task, time.monotonic())

    def _task(self, trial: Trial, i: int) -> Task:
        trial.tries[i] += 1
        plan, parent = self.plan, self.family.parent.info
        tags = self.family.tags_of(trial, i)
        seed = f" seed={plan.values(trial.point, i)['seed']}" if plan.seeds > 1 else ""
        name = f"trial {trial.number} · {trial.name()}{seed}"
        options: Options = {
            "tags": tags,
            "run_name": name[:230],
            "score": plan.objectives[0][0],
            "experiment_id": parent.experiment_id,
            **plan.limits,
        }
        if plan.pruner:
            options["beat"] = PRUNE_EVERY
        if not self.pool.is_here:  # another machine must have the same code, data and environment
            options["expected"] = self._parts(trial.point, i)
            options["packages"] = fingerprint.packages()
        return {
            "id": f"{trial.number}.{i}.{trial.tries[i]}",
            "sweep": parent.run_id,
            "store": mlflow.get_tracking_uri(),
            "notebook": self.plan.where(),
            "values": plan.values(trial.point, i),
            "kernel": self.kernel,
            "settle": [] if self.pool.is_here else [MLFLOW_PARENT_RUN_ID, TASK],
            "options": options,
        }

    def _has_memory(self) -> bool:
        """Whether one more trial fits; one may always run. Says so when the memory begins to slow the sweep."""
        if not self.flying or not self.pool.is_here:
            return True
        need = self.peak or FIRST_GUESS
        free = free_memory() * (1 - RESERVE)
        if self.plan.memory:
            free = min(free, self.plan.memory - need * len(self.flying))
        fits = free >= need
        if not fits and not self.slowed:
            self.progress.say(
                f"memory: a trial takes up to {need / 1e6:,.0f} MB and {max(free, 0) / 1e6:,.0f} MB are free: "
                f"{len(self.flying)} at once instead of {self.pool.capacity()}, until more is free"
            )
        self.slowed = not fits
        return fits

    def run(self) -> Counter[str]:
        """Run every trial that is missing; returns the counts by state."""
        self._show()
        while True:
            self._fill()
            self._report()
            self._show()
            if not self.flying:
                break
            done, _ = wait(self.flying, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                trial, i, _, _ = self.flying.pop(future)
                self._take(trial, i, future)
            self._look()
            if self.lost:
                raise WorkbookError(
                    f"the sweep {self.family.run_id} was closed by another command meanwhile."
                )
        self._wait_for_others()
        return self.counts()

    def _wait_for_others(self) -> None:
        """Let those that share the search end their last trials, so that the parent's tables are whole."""
        while (
            self.plan.storage and self.family.is_mine_to_close() and self.family.children("RUNNING")
        ):
            liveness.close_dead_runs()
            time.sleep(0.5)

    def counts(self) -> Counter[str]:
        """{state: number of trials}."""
        return Counter(t.state for t in self.trials)

    def _take(self, trial: Trial, i: int, future: Future[Facts]) -> None:
        """Take what came of the repetition `i` of `trial`: keep it, or try it again.

            what came of it                               status    then
            stopped, as the pruner asked                  PRUNED    the trial is PRUNED
            ended, with a number for each objective       FINISHED  after the last repetition the trial is FINISHED
            ended otherwise, or without such a number     FAILED    again, --retries times; then the trial is FAILED
            ended by the loss of its worker or store,
            or by another command                         LOST      again, LOST times in all; then the trial is FAILED
            ended by anything else, such as a signal      KILLED    the trial is KILLED

        A trial that is PRUNED, FAILED or KILLED has no more repetitions (see _settle, _drop).
        """
        facts = self._outcome(future)
        trial.losses[i] += facts["status"] == "LOST"
        self.peak = max(self.peak, facts["metrics"].get("notebook/peak_memory_mb", 0) * 1e6)
        if self._is_tried_again(trial, i, facts["status"]):
            self.progress.say(
                f"trial {trial.number} ({trial.typed()}): {facts['error']}; it is tried again"
            )
            if facts["status"] == "LOST":
                liveness.close_dead_runs()
            self.waiting.append((trial, i))
            return
        trial.facts[i] = facts
        if facts["status"] == "FINISHED":  # one that ended between two looks is a measure, too
            self._follow(trial, facts["run_id"])
        if len(trial.facts) == self.plan.seeds or facts["status"] != "FINISHED":
            self._settle(trial)
        self._serve_twins(trial, i, facts)

    def _outcome(self, future: Future[Facts]) -> Facts:
        """What came of a repetition, with the status that `_take` tells of."""
        try:
            facts = future.result()
        except WorkerLost as error:
            facts = worker.without_run("LOST", str(error))
        except WorkbookError as error:
            facts = worker.without_run("FAILED", error.message)
        if engine.PRUNED in facts["tags"]:  # its run is KILLED, and closed by nobody
            facts["status"] = "PRUNED"
        elif facts["status"] == "FINISHED":
            facts = self._scored(facts)
        elif _is_lost(facts):
            facts["status"] = "LOST"
        return facts

    def _is_tried_again(self, trial: Trial, i: int, status: str) -> bool:
        """Whether the repetition `i` of `trial`, which has ended with `status`, is to be run once more."""
        if status == "LOST":
            return trial.losses[i] < LOST
        return status == "FAILED" and trial.tries[i] - trial.losses[i] <= self.plan.retries

    def _drop(self, trial: Trial) -> None:
        """Take what still waits of a `trial` that has failed off the queue; twins of it are run on their own."""
        dropped = [number for waiting, number in self.waiting if waiting is trial]
        self.waiting = deque(w for w in self.waiting if w[0] is not trial)
        for number in dropped:
            twins = self.twins.pop(trial.prints[number])
            for twin, _ in twins:
                self._queue(twin)

    def _serve_twins(self, trial: Trial, i: int, facts: Facts) -> None:
        """Give those trials that wait for the same run what came of it, or let the first of them try it."""
        twins = self.twins.pop(trial.prints[i], [])
        if facts["status"] == "FINISHED":
            self.known[trial.prints[i]] = facts
        for twin, number in twins:
            twin.facts[number] = facts
            if len(twin.facts) == self.plan.seeds or facts["status"] != "FINISHED":
                self._reuse(twin)

    def _scored(self, facts: Facts) -> Facts:
        """`facts` of a finished run, failed where an objective is missing or not a number."""
        for metric, _ in self.plan.objectives:
            value = facts["metrics"].get(metric)
            if value is None or not math.isfinite(value):
                logged = [m for m in facts["metrics"] if not m.startswith("notebook/")]
                why = f"it logged {', '.join(logged) or 'none'}.{nearest(metric, logged)}"
                if value is not None:
                    why = f"it is {value}."
                return {
                    **facts,
                    "status": "FAILED",
                    "error": f"no number for the metric '{metric}': {why}",
                }
        return facts

    def _mean(self, trial: Trial) -> list[float]:
        return [
            statistics.fmean(f["metrics"][metric] for f in trial.facts.values())
            for metric, _ in self.plan.objectives
        ]

    def _settle(self, trial: Trial) -> None:
        """Tell the search how `trial` ended, so that it can propose the next one; the others are told after that."""
        if trial.state != "RUNNING":
            return
        statuses = [f["status"] for f in trial.facts.values()]
        worst = next((s for s in statuses if s != "FINISHED"), "FINISHED")
        trial.state = "FAILED" if worst == "LOST" else worst
        self._drop(trial)
        if trial.state == "FINISHED":
            trial.values = self._mean(trial)
        self.search.tell(trial.asked, trial.values, trial.state == "PRUNED")
        self.untold.append((trial, self._bests() if trial.state == "FINISHED" else []))

    def _report(self) -> None:
        """Tell the parent and the terminal what has ended; the next trials run meanwhile."""
        told, self.untold = self.untold, []
        if metrics := [metric for _, bests in told for metric in bests]:
            self.client.log_batch(self.family.run_id, metrics=metrics)
        for trial, _ in told:
            self._tell(trial)

    def _bests(self) -> list[Metric]:
        """The best values so far, as metrics of the parent; their step is the number of finished trials."""
        done, moment = sum(t.state == "FINISHED" for t in self.trials), int(time.time() * 1000)
        bests = [(j, self.best(j)) for j in range(len(self.plan.objectives))]
        return [
            Metric(f"best_{self.plan.objectives[j][0]}", best.values[j], moment, done)
            for j, best in bests
            if best and best.values
        ]

    def best(self, objective: int = 0) -> Trial | None:
        """The finished trial that is best by the objective of that number; None where none has finished."""
        return self.plan.best(self.trials, objective)

    def _tell(self, trial: Trial) -> None:
        error = next((f["error"] for f in trial.facts.values() if f["status"] != "FINISHED"), "")
        told = error
        if trial.values:
            told = self.plan.scores(trial.values)
        self.progress.trial(trial, told)

    # --- what is under way

    def _look(self) -> None:
        now = time.monotonic()
        if self.plan.pruner and now - self.pruned_at > PRUNE_EVERY and self.flying:
            self.pruned_at = now
            self._prune()
        if now - self.looked > STALE_EVERY and self.flying:
            self.looked = now
            self._free_the_stuck()

    def _prune(self) -> None:
        """Report what the running trials have logged so far, and ask those to stop that are hopeless."""
        flying = {f"{t.number}.{i}": t for t, i, _, _ in self.flying.values()}
        metric = self.plan.watched()
        for run in self.family.children("RUNNING"):
            trial = flying.get(run.data.tags.get(TASK, ""))
            if trial is None or metric not in run.data.metrics or liveness.STOP in run.data.tags:
                continue
            self._follow(trial, run.info.run_id)
            if trial.reported >= 0 and trial.asked.should_prune():
                reason = f"pruned at step {trial.reported} by the {self.plan.pruner} pruner"
                self.client.set_tag(run.info.run_id, liveness.STOP, reason)

    def _follow(self, trial: Trial, run_id: str | None) -> None:
        """Report to the pruner what the run of `trial` has logged of the watched metric since the last look."""
        for step, value in self._course(run_id).items():
            if step > trial.reported:
                trial.reported = step
                trial.asked.report(value, step)

    def _course(self, run_id: str | None) -> dict[int, float]:
        """{step: value} that a run has logged of the watched metric, in order; empty where nothing is pruned."""
        if not self.plan.pruner or run_id is None:
            return {}
        history = self.client.get_metric_history(run_id, self.plan.watched())
        history.sort(key=lambda m: (m.step, m.timestamp))
        course = {m.step: m.value for m in history if math.isfinite(m.value)}
        self.longest = max(self.longest, len(course))
        return course

    def lose(self) -> bool:
        """The parent was closed meanwhile; where the search is shared, for another's death: then go on as its owner.

        Returns whether it goes on.
        """
        if not self.plan.storage:
            self.lost = True
        # one that is running still is being closed
        elif self.client.get_run(self.family.run_id).info.status != "RUNNING":
            self.family.claim()
        return not self.lost

    def _free_the_stuck(self) -> None:
        """Close trials whose worker is gone or stopped, and give up workers that hang on such a trial."""
        liveness.close_dead_runs()
        old = [(f, *w) for f, w in self.flying.items() if time.monotonic() - w[3] > 2 * STALE_EVERY]
        if not old:
            return
        closed = Counter(
            r.data.tags.get(TASK) for r in self.family.children("KILLED") if liveness.closed_by(r)
        )
        for _, trial, i, task, _ in old:
            if closed[f"{trial.number}.{i}"] > trial.losses[i]:
                self.pool.abandon(task)

    def _show(self) -> None:
        best = self.best()
        counts = self.counts()
        self.progress.show(
            done=sum(counts.values()) - counts["RUNNING"],
            total=self.plan.wanted(),
            running=len(self.flying),
            failed=counts["FAILED"],
            best=labels.number(float(best.values[0]), 5) if best and best.values else None,
        )

    # --- the end

    def interrupt(self) -> None:
        """End what is under way as Ctrl-C does, and wait until it is recorded."""
        self.pool.interrupt()
        if self.flying:
            wait(self.flying, timeout=worker.PARTING)

    def close(self, status: str) -> None:
        """Keep the pictures and tables with the parent, and set its status."""
        if not self.family.is_mine_to_close():
            return
        parent = self.family.parent
        try:
            trials = self.trials + (self._of_others() if self.plan.storage else [])
            sweep_report.keep(self.client, parent, self.plan, trials, self.search)
            manifest.write(self.client, parent)
        finally:
            liveness.set_status(self.client, self.family.run_id, status)
            liveness.forget(self.client, self.client.get_run(self.family.run_id))

    def _of_others(self) -> list[Trial]:
        """The trials that others who share the search have run."""
        mine, found = {t.number for t in self.trials}, {}
        # of several tries the newest counts, unless one has finished
        runs = self.family.children()
        runs.sort(key=lambda r: (r.info.status == "FINISHED", r.info.start_time))
        for run in runs:
            number, i = map(int, run.data.tags[TASK].split("."))
            if number not in mine:
                trial = found.setdefault(number, Trial(number, json.loads(run.data.tags[POINT])))
                trial.facts[i] = _facts(run)
        for trial in found.values():
            statuses = {facts["status"] for facts in trial.facts.values()}
            trial.state = statuses.pop() if len(statuses) == 1 else "FAILED"
            if trial.state == "FINISHED" and len(trial.facts) == self.plan.seeds:
                trial.values = self._mean(trial)
        return list(found.values())


def _facts(run: Run) -> Facts:
    return {
        "run_id": run.info.run_id,
        "status": "PRUNED" if engine.PRUNED in run.data.tags else run.info.status,
        "metrics": run.data.metrics,
        "tags": dict(run.data.tags),
        "error": "",
        "seconds": ((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000,
    }


def _is_lost(facts: Facts) -> bool:
    """Whether a trial ended for no fault of its own: its worker, its store or another command ended it."""
    return bool(
        facts["status"] in ("LOST", "RUNNING")
        or facts.get("interrupted")
        or facts.get("away")
        or liveness.CLOSED in facts["tags"]
    )


def _away(error: MlflowException) -> WorkbookError:
    reason = first_line(error.message)
    return WorkbookError(
        f"the store is away ({reason}); go on by the same command once it is back."
    )


def execute(plan: Plan, pool: Pool, progress: Progress) -> Sweep:
    """Execute `plan` with the workers of `pool`, and return the ended Sweep."""
    os.environ.setdefault(engine.RETRIES, str(PATIENCE))
    tracking.use_store()
    held = None if plan.storage else sweep_runs.lock(plan)
    sweep = Sweep(plan, pool, progress)
    try:
        with interruption.signals() as signals:
            sweep.open()
            heart = liveness.Heartbeat(sweep.family.run_id, on_lost=sweep.lose)
            heart.start()
            signals.armed = False
            status = "FAILED"
            try:
                with signals.raising():
                    counts = sweep.run()
                status = "FINISHED" if counts["FINISHED"] or not counts else "FAILED"
            except (KeyboardInterrupt, SystemExit):
                status = "KILLED"
                sweep.interrupt()
                raise
            except MlflowException as error:
                raise _away(error) from error
            finally:
                pool.close()
                progress.close()
                sweep.close(status)
                heart.stop()
    finally:
        pool.close()
        progress.close()
        if held:
            held.release()
    return sweep
