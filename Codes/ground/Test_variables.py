"""A command that is started from within a run has nothing of that run in its environment."""

# pylint: disable=missing-function-docstring

import pytest

from Codes.ground import variables

OF_THE_RUN = """
WORKBOOK_RUN_ID WORKBOOK_TRACKING_URI WORKBOOK_NOTEBOOK MLFLOW_RUN_ID JPY_SESSION_NAME
""".split()
STAYS = {"WORKBOOK_EXPERIMENT_ID": "5", "MLFLOW_TRACKING_URI": "sqlite:///x.db"}


@pytest.mark.parametrize("is_kernel", [True, False])
def test_what_names_the_surrounding_run_is_left_out(monkeypatch, is_kernel):
    for name in OF_THE_RUN:
        monkeypatch.setenv(name, "x")
    if not is_kernel:
        monkeypatch.delenv("WORKBOOK_RUN_ID")
    for name, value in (STAYS | {"MLFLOW_EXPERIMENT_ID": "7"}).items():
        monkeypatch.setenv(name, value)
    found = variables.outside()
    assert not found.keys() & {*OF_THE_RUN} and found.items() >= STAYS.items()
    # a kernel's is its run's; from a terminal it is the one for all runs
    assert found.get("MLFLOW_EXPERIMENT_ID") == (None if is_kernel else "7")
