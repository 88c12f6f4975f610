"""What a cell shows is kept up to a limit, and which cells are to run."""

from types import SimpleNamespace

import pytest
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from Codes.running import execution

# pylint: disable=protected-access


@pytest.fixture(name="client")
def _client(monkeypatch):
    """A client over a notebook of one cell, which may keep 100 bytes of figures and 10 characters of text."""
    monkeypatch.setattr(execution, "RICH_LIMIT", 100)
    monkeypatch.setattr(execution, "TEXT_LIMIT", 10)
    manager = SimpleNamespace(nb=new_notebook(cells=[new_code_cell()]), autosave_cell=bool)
    client = execution.Client(manager, None, None)
    client.reset_execution_trackers()
    return client


def tell(client, kind, **content):
    """Let the `client` get a message of the kernel."""
    message = {"msg_type": kind, "header": {"msg_type": kind}, "parent_header": {"msg_id": "1"}}
    client.process_message(message | {"content": content}, client.nb.cells[0], 0)


def show(client, figure):
    """Let the cell show a `figure`."""
    tell(client, "display_data", data={"image/png": figure}, metadata={})


def shown(client):
    """What the cell shows."""
    return [o.get("text") or o.data["image/png"] for o in client.nb.cells[0].outputs]


@pytest.mark.parametrize("wait", [True, False])
def test_a_live_figure_ends_as_its_last_one_however_many_there_were(client, wait):
    for number in range(10):
        tell(client, "clear_output", wait=wait)
        show(client, f"{number}" * 60)
        tell(client, "stream", name="stdout", text=f"{number}" * 10)
    assert shown(client) == ["9" * 60, "9" * 10]


def test_a_figure_that_is_too_large_does_not_leave_an_earlier_one_as_the_last(client):
    show(client, "1" * 60)
    tell(client, "clear_output", wait=True)
    assert shown(client) == ["1" * 60]  # until the next output
    show(client, "2" * 101)
    assert not shown(client)
    client._say_what_was_cut(client.nb.cells[0], 0)  # pylint: disable=protected-access
    assert "output cut: 101 more" in shown(client)[0]


def test_what_was_cut_before_all_was_cleared_is_not_told(client):
    tell(client, "stream", name="stdout", text="x" * 50)
    tell(client, "clear_output", wait=False)
    tell(client, "stream", name="stdout", text="end")
    client._say_what_was_cut(client.nb.cells[0], 0)  # pylint: disable=protected-access
    assert shown(client) == ["end"]


def test_a_widget_has_a_limit_of_its_own_and_clearing_it_frees_no_room_in_the_cell(client):
    widget = SimpleNamespace(clear_before_next_output=False, seen=[])
    widget.output = lambda outs, msg, *_: widget.seen.append(msg["content"]["data"]["image/png"])
    widget.clear_output = lambda *_: widget.seen.clear()
    show(client, "1" * 60)
    for number in "23":
        client.register_output_hook("1", widget)
        tell(client, "clear_output", wait=False)
        show(client, number * 60)
        client.remove_output_hook("1", widget)
    show(client, "4" * 60)
    assert widget.seen == ["3" * 60] and shown(client) == ["1" * 60]


def test_only_a_code_cell_that_is_to_run_can_lack_its_execution():
    skipped = new_code_cell("1/0", metadata={"tags": [execution.SKIP]})
    others = [new_raw_cell("raw"), new_markdown_cell("text"), new_code_cell(" \n"), skipped]
    assert execution.SKIP == execution.Client.skip_cells_with_tag.default_value
    assert execution.unexecuted(new_notebook(cells=others)) is None
    assert execution.unexecuted(new_notebook(cells=[*others, new_code_cell("1")])) == 5


@pytest.mark.parametrize(
    ("stop", "status", "error"),
    [("LIMIT", "FAILED", "CellTimeoutError"), ("ASKED", "KILLED", "WorkbookError")],
)
def test_why_a_kernel_was_stopped_decides_how_the_run_ends_not_the_sentence_that_tells_it(
    stop, status, error
):
    guard, manager = execution.Guard(execution.Limits()), SimpleNamespace(nb=new_notebook())
    stop = execution.Stop[stop]
    guard.stop_kernel(stop, "over the limit, as it says")
    guard.stop_kernel(execution.Stop.CLOSED, "too late")
    seen = execution._explain(DeadKernelError(), guard, manager)
    within = execution._explain_cell(
        CellExecutionError("", "KeyboardInterrupt", ""), guard, manager
    )
    for outcome in (seen, within):
        assert (outcome.status, outcome.error, outcome.stop) == (status, error, stop)
        assert outcome.message == "over the limit, as it says"
