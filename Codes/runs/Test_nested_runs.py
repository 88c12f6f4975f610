"""The runs that a notebook asks for, under the runner and by hand; what runs side by side log at the same moment."""

import multiprocessing.process
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from mlflow.data import from_pandas
from mlflow.entities import DatasetInput
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from Codes.testing import testbed
from Codes.testing.cases import sampled

AT_ONCE, ROUNDS = 4, 25


def test_runs_that_log_the_same_new_dataset_at_once_all_have_it(own_store):
    experiment = own_store.client.create_experiment("race")
    runs = [own_store.client.create_run(experiment).info.run_id for _ in range(AT_ONCE)]
    barrier = threading.Barrier(AT_ONCE)

    def log(run_id, found):
        client = TrackingServiceClient(own_store.uri)
        barrier.wait()
        client.log_inputs(run_id, [DatasetInput(found)])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for i in range(ROUNDS):
            found = from_pandas(pd.DataFrame({"x": [i / 2]}), name=f"table{i}")
            found = found._to_mlflow_entity()  # pylint: disable=protected-access
            list(pool.map(log, runs, [found] * AT_ONCE))
    for run_id in runs:
        names = [i.dataset.name for i in own_store.client.get_run(run_id).inputs.dataset_inputs]
        assert sorted(names) == sorted(f"table{i}" for i in range(ROUNDS))


def test_processes_that_write_the_same_new_tag_at_once_all_succeed(own_store):
    run_id = own_store.client.create_run(own_store.client.create_experiment("tags")).info.run_id
    barrier = threading.Barrier(AT_ONCE)

    def tag(name):
        barrier.wait()
        own_store.client.set_tag(run_id, name, "closed")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for i in range(ROUNDS):
            list(pool.map(tag, [f"name{i}"] * AT_ONCE))
    tags = own_store.client.get_run(run_id).data.tags
    assert {f"name{i}" for i in range(ROUNDS)} <= set(tags)


# --- the runs that a notebook asks for

IRIS = """
import mlflow, mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
mlflow.sklearn.autolog(log_models=False, log_datasets=False)
X, y = load_iris(return_X_y=True)
tree = DecisionTreeClassifier(max_depth=1, random_state=0)"""
SHALLOW_THEN_DEEP = "tree.fit(X, y), tree.set_params(max_depth=3).fit(X, y)"
FOLDS = """
def fold(i, parent, **more):
    import mlflow
    with mlflow.start_run(run_name=f'fold {i}', parent_run_id=parent, nested=True):
        mlflow.log_metric('score', i)
import mlflow
mlflow.log_metric('start', 1)
parent = mlflow.active_run().info.run_id
"""
PATTERNS = {
    "loop": """
import mlflow
for depth in (2, 4, 8):
    with mlflow.start_run(run_name=f'depth {depth}'):
        mlflow.log_param('depth', depth), mlflow.log_metric('score', depth)""",
    "threads": f"""{FOLDS}
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool: list(pool.map(fold, range(4), [parent] * 4))""",
    "optuna": """
import mlflow, optuna
def objective(trial):
    with mlflow.start_run(run_name=f'trial {trial.number}', nested=True):
        mlflow.log_param('n', trial.number), mlflow.log_metric('value', trial.number)
    return trial.number
def keep(study, trial):
    with mlflow.start_run(run_name=f'kept {trial.number}', nested=True):
        mlflow.log_metric('kept', trial.value)
with mlflow.start_run(run_name='study'):
    optuna.create_study().optimize(objective, n_trials=4, n_jobs=2, callbacks=[keep])
    mlflow.log_metric('best', 0)""",
    "nested": """
import mlflow
with mlflow.start_run(run_name='one'):
    with mlflow.start_run(run_name='two', nested=True):
        with mlflow.start_run(run_name='three', nested=True): mlflow.log_metric('m', 3)
        mlflow.log_metric('m', 2)
    mlflow.log_metric('m', 1)
mlflow.start_run(run_name='four'), mlflow.log_metric('m', 4), mlflow.end_run()
with mlflow.start_run(run_id=mlflow.last_active_run().info.run_id): mlflow.log_metric('n', 4)""",
    "autolog": f"{IRIS}\n{SHALLOW_THEN_DEEP}\nGridSearchCV(tree, {{'max_depth': [1, 2]}}).fit(X, y)",
    "experiment": """
import mlflow
mlflow.set_experiment('mine')
with mlflow.start_run(run_name='a'): mlflow.log_metric('m', 1)
with mlflow.start_run(run_name='b'):
    mlflow.log_metric('m', len(mlflow.search_runs()))
    mlflow.log_metric('n', len(mlflow.search_runs(experiment_names=['mine'])))""",
}


def by_hand(code, uri):
    """Run `code` as a plain session does, in the store `uri`; called in a process of its own."""
    multiprocessing.process._parent_process = None  # pylint: disable=protected-access
    os.environ.clear()
    os.environ.update(testbed.clean_environment() | {"MLFLOW_TRACKING_URI": uri})
    os.chdir(Path(uri.removeprefix("sqlite:///")).parent)
    exec(code, vars(sys.modules["__main__"]))  # pylint: disable=exec-used


def content(run):
    """What the notebook itself logged to `run`, as something that can be sorted."""
    metrics = {
        k: v for k, v in run.data.metrics.items() if not k.startswith(("notebook/", "mean", "std"))
    }
    return str(sorted(run.data.params.items() - {("seed", "0")})), str(sorted(metrics.items()))


def described(runs, root=None):
    """(content, content of the parent) of each of `runs`, sorted; to be below `root` is to be at the top."""
    by_id = {run.info.run_id: content(run) for run in runs}
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    return sorted(
        (by_id[i], by_id[p] if p not in (None, root) else "top") for i, p in parents.items()
    )


@pytest.mark.parametrize("name", sampled(PATTERNS, "threads", "nested"))
def test_a_notebook_makes_the_same_runs_under_the_runner_as_by_hand(name, own_store, tmp_path):
    code = PATTERNS[name]
    (tmp_path / "hand").mkdir()
    hand = testbed.Store(testbed.fresh_store(tmp_path / "hand"), tmp_path / "hand")
    process = testbed.FORKS.Process(target=by_hand, args=(code, hand.uri))
    process.start()
    execution = own_store.start(name, code, environment={"MLFLOW_EXPERIMENT_NAME": ""}).finish()
    process.join()
    assert (process.exitcode, execution.code) == (0, 0), execution.printed
    runs = own_store.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    (root,) = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    # a child of the first run, which is the runner's own, is none of the notebook as such
    first = min(hand.runs(), key=lambda run: run.info.start_time).info.run_id
    assert described(runs, root) == described(hand.runs(), first)
    assert experiments(hand) - {"Default"} <= experiments(own_store)


def experiments(store):
    """The names of the experiments that have runs."""
    return {store.client.get_experiment(run.info.experiment_id).name for run in store.runs()}


WORKERS = f"""{FOLDS}
from joblib import Parallel, delayed
import subprocess, sys
Parallel(2)(delayed(fold)(i, parent) for i in range(2))
Parallel(2, backend='multiprocessing')(delayed(fold)(i, None) for i in range(2, 4))
from distributed import Client, LocalCluster
with LocalCluster(n_workers=1, dashboard_address=None) as cluster, Client(cluster) as client:
    client.submit(fold, 4, None).result()
for name in ('one', 'two'): subprocess.run([sys.executable, '-c', SCRIPT, name], check=True)"""
SCRIPT = """import mlflow, sys
mlflow.log_metric('script', 1)
with mlflow.start_run(run_name=sys.argv[1]): mlflow.log_metric('m', 1)"""


@pytest.mark.timeout(
    900
)  # five processes import MLflow anew, 5 s each where nothing else is going on
def test_workers_and_scripts_begin_runs_of_their_own_below_the_notebooks(own_store):
    execution = own_store.start("workers", f"SCRIPT = {SCRIPT!r}{WORKERS}").finish(800)
    assert execution.code == 0, execution.printed
    (root,) = [run for run in execution.runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in execution.runs if run.info.run_id != root.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {root.info.run_id}
    assert sorted(run.info.run_name for run in children) == [
        *(f"fold {i}" for i in range(5)),
        "two",
    ]
    # the first script begins the notebook's run, which the notebook did not
    assert root.info.run_name == "workers · one"
    assert {"start", "script", "m"} <= set(root.data.metrics) and "score" not in root.data.metrics


TWO_FITS = {
    "within": f"{IRIS}\nwith mlflow.start_run():\n    {SHALLOW_THEN_DEEP}",
    "after": f"{IRIS}\nmlflow.log_metric('before', 1)\n{SHALLOW_THEN_DEEP}\nmlflow.log_metric('after', 1)",
}


@pytest.mark.parametrize("name", sampled(TWO_FITS, "within"))
def test_no_parameter_of_one_fit_stands_beside_a_metric_of_another(name, own_store):
    execution = own_store.start(name, TWO_FITS[name]).finish()
    assert execution.code == 0, execution.printed
    found = {
        run.data.params["max_depth"]: run.data.metrics["training_accuracy_score"] > 0.9
        for run in execution.runs
    }
    assert found == {"1": False, "3": True}


BARE_THEN_WITH = """
mlflow.log_metric('before', 1)
with mlflow.start_run(run_name='main'): mlflow.log_metric('in', 2)
mlflow.log_metric('after', 3)"""


def test_a_run_is_begun_after_something_was_logged_and_has_both_names(own_store):
    execution = own_store.start("bare", f"import mlflow{BARE_THEN_WITH}").finish()
    assert execution.code == 0, execution.printed
    assert {"before", "in", "after"} <= set(execution.run.data.metrics)
    assert execution.run.info.run_name == "bare · main"


def test_by_hand_a_run_is_begun_after_something_was_logged_too(own_store):
    code = f"from Codes import tracking; import mlflow; run = tracking.start_run(){BARE_THEN_WITH}"
    again = "\nwith mlflow.start_run(run_name='second'): mlflow.log_metric('in', 4)"
    process = testbed.FORKS.Process(target=by_hand, args=(code + again, own_store.uri))
    process.start()
    process.join()
    assert process.exitcode == 0
    second, first = sorted(own_store.runs(), key=lambda run: run.info.run_name)[::-1]
    assert first.data.metrics == {"before": 1, "in": 2, "after": 3}
    assert second.data.metrics == {"in": 4}
    assert second.data.tags["mlflow.parentRunId"] == first.info.run_id


def test_another_store_is_refused_in_the_cell_and_the_same_in_another_spelling_is_not(own_store):
    here = "os.path.relpath(os.environ['MLFLOW_TRACKING_URI'][10:])"
    same = f"import mlflow, os\nmlflow.set_tracking_uri('sqlite:///' + {here})"
    cells = [same, "mlflow.log_metric('a', 1)", "mlflow.set_tracking_uri('sqlite:///other.db')"]
    execution = own_store.start("store", *cells).finish()
    testbed.check_failed(
        execution, "FAILED", "this run is kept in .*/mlflow.db.*MLFLOW_TRACKING_URI=.*other.db"
    )
    assert "cell 4" in execution.printed and execution.run.data.metrics["a"] == 1


def test_names_of_experiments_stand_for_the_one_that_was_chosen_for_all(own_store):
    cells = [
        "import mlflow\nmlflow.set_experiment('mine')\nmlflow.log_metric('m', 1)",
        "with mlflow.start_run(nested=True, run_name='child'): mlflow.log_metric('c', 1)",
        "mlflow.log_table({'a': [1]}, 't.json')\nmlflow.log_metric('rows', len(mlflow.load_table('t.json')))",
        "mlflow.log_metric('seen', len(mlflow.search_runs(experiment_names=['mine'])))",
    ]
    execution = own_store.start("chosen", *cells).finish()
    assert execution.code == 0 and len(execution.runs) == len(own_store.runs()) == 2
    (root,) = [run for run in execution.runs if run.info.run_name == "chosen"]
    assert (root.data.metrics["rows"], root.data.metrics["seen"]) == (1, 2)
