"""What 04_promote shows: a refusal, a mistake and the way back, of which the user's store holds nothing."""

import pytest

from Codes.model_registry import demonstration


@pytest.mark.soak  # the lifecycle shows it too
def test_a_constant_is_refused_a_mistake_taken_back_and_the_users_store_is_not_even_opened(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    shown = demonstration.play("breast_cancer")
    assert "it answers every row alike" in shown.refusal and not shown.report.passed
    assert list(shown.moves.kind) == ["promote", "promote", "promote", "rollback"]
    assert list(shown.moves.outcome) == ["done", "refused", "done", "done"]
    assert list(shown.moves.before) == ["nothing", 1, 1, 2]
    assert shown.moves.override[2] == "it was urgent" and shown.moves.after[3] == 1
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_shown_one_line_says_why():
    shown = demonstration.play("nothing")
    assert "cannot be shown" in shown.refusal and "no problem 'nothing'" in shown.refusal
    assert shown.report is None and shown.moves.empty
