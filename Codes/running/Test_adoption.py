"""Runs side by side, as a sweep makes them: what they log at the same moment, also on the same run."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from mlflow.data import from_pandas
from mlflow.entities import DatasetInput
from mlflow.tracking._tracking_service.client import TrackingServiceClient

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
