"""A search that several commands share: what counts, one parent for all, and who goes on when one dies."""

import json
from types import SimpleNamespace

import mlflow
import papermill  # pylint: disable=unused-import  # it imports our engine, and must come first
import pytest

from Codes.ground import paths
from Codes.ground.errors import WorkbookError
from Codes.running import engine, runner
from Codes.runs import liveness, tracking
from Codes.sweeps import search, space as spaces
from Codes.sweeps.plan import Plan, Trial
from Codes.sweeps.search import OWNER, Search
from Codes.sweeps.sweep import Sweep
from Codes.sweeps.sweep_runs import Family, POINT, TASK, TRIAL
from Codes.testing.testbed import X, wait_for, write_notebook


@pytest.fixture(name="plan")
def fixture_plan(own_store, monkeypatch):
    """A plan whose search is shared, in a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store.uri)
    monkeypatch.setenv(engine.RETRIES, "1")
    tracking.use_store()
    yield plan_of(own_store.folder, storage=f"sqlite:///{own_store.folder}/search.db")
    mlflow.set_tracking_uri(None)


def plan_of(folder, parameters=X, vary=("x=0..9",), **options):
    """A plan for a notebook in `folder`."""
    folder.mkdir(exist_ok=True)
    write_notebook(
        folder / "n.ipynb", "import mlflow\nmlflow.log_metric('score', 1)", parameters=parameters
    )
    space = spaces.read(runner.declared(folder / "n.ipynb"), None, vary, {})
    options = {"sampler": "random", "trials": 3} | options
    return Plan(folder / "n.ipynb", space, [("score", "maximize")], **options)


def sweep_of(plan):
    """A sweep by `plan` whose parent is there, and which has no workers."""
    found = Sweep(plan, None, SimpleNamespace(say=print))
    found.family.open()
    return found


def test_a_trial_is_told_as_it_is_typed_and_named_briefly():
    trial = Trial(1, {"h.a": 0.00123456, "x": 2})
    assert (trial.typed(), trial.name()) == ("h.a=0.001235 x=2", "a=0.001235 x=2")


def test_a_failed_trial_counts_as_long_as_its_process_lives(plan):
    shared = Search(plan, 0, "n")
    failed, _ = shared.ask()
    shared.tell(failed)
    assert shared.count() == 1, "else a notebook that always fails is tried for ever"
    orphan, point = shared.ask()
    gone = json.loads(liveness.me()) | {"start": "0"}
    orphan.set_user_attr(OWNER, json.dumps(gone))
    assert shared.orphans(set()) == [point] and shared.count() == 1
    again, same = shared.again(point)
    assert same == point and shared.count() == 2
    assert json.loads(again.user_attrs[OWNER])["pid"] == json.loads(liveness.me())["pid"]


def test_commands_that_begin_at_once_take_one_parent(plan, monkeypatch):
    first, second = Family(plan, print), Family(plan, print)
    first.open()
    monkeypatch.setattr(
        second, "_earlier", lambda experiment: None
    )  # it looked before the other's was there
    second.open()
    assert second.run_id == first.run_id and not second.is_new
    assert len(mlflow.search_runs([first.parent.info.experiment_id])) == 1


def test_a_parent_that_was_closed_for_anothers_death_is_taken_over(plan):
    sweep = sweep_of(plan)
    run_id, client = sweep.family.run_id, mlflow.MlflowClient()
    with liveness.Heartbeat(run_id, on_lost=sweep.lose, period=0.05) as heart:
        assert liveness.close(client, client.get_run(run_id))
        wait_for(lambda: client.get_run(run_id).info.status == "RUNNING")
        wait_for(lambda: not liveness.closed_by(client.get_run(run_id)))
        run = client.get_run(run_id)
        assert run.info.status == "RUNNING" and liveness.is_alive(run)
        assert heart.is_alive() and not sweep.lost
    heart.join()


def test_of_several_tries_of_anothers_trial_the_finished_one_counts(plan):
    sweep = sweep_of(plan)
    parent, client = sweep.family.parent.info, mlflow.MlflowClient()
    for status, score in (("FAILED", None), ("FINISHED", 0.9), ("KILLED", None)):
        tags = {"mlflow.parentRunId": parent.run_id, TRIAL: "7", TASK: "7.0", POINT: '{"x": 1}'}
        run = client.create_run(parent.experiment_id, tags=tags).info.run_id
        if score:
            client.log_metric(run, "score", score)
        client.set_terminated(run, status)
    trials = sweep._of_others()  # pylint: disable=protected-access
    assert [(t.state, t.values) for t in trials] == [("FINISHED", [0.9])]


def test_a_sweep_is_the_same_in_another_checkout(tmp_path, monkeypatch):
    keys = []
    for name in ("here", "there"):
        monkeypatch.setattr(paths, "ROOT", tmp_path / name)
        keys.append(plan_of(tmp_path / name).key())
    assert keys[0] == keys[1]


def test_seeds_begin_with_a_whole_number_or_a_line(tmp_path):
    plan = plan_of(tmp_path, "x: float = 0\nseed: int | None = None", seeds=3)
    with pytest.raises(WorkbookError, match="-p seed 0"):
        plan.first_seed()


@pytest.mark.parametrize("name", sorted(search.samplers()))
def test_each_sampler_that_is_named_can_be_used_or_says_what_it_needs(name):
    try:
        search.try_out(name, "", None)
    except WorkbookError as error:
        assert "pip install" in error.message
