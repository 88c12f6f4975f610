"""Problems are read strictly: each mistake is one line with the file's name and the key."""

import pytest

from Codes.ground.errors import WorkbookError
from Codes.problems import problem

GOOD = """\
title: Is it ripe?
task: classification
source: {path: table.csv}
target: ripe
split: {kind: random, test_share: 0.5}
metric: {name: accuracy, direction: maximize}
"""


def write(folder, text):
    """A file fruit.yaml in `folder`."""
    path = folder / "fruit.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder, text):
    """The one line with which `text` is refused."""
    with pytest.raises(WorkbookError) as error:
        problem.load(write(folder, text))
    assert "\n" not in error.value.message
    assert error.value.message.startswith("fruit.yaml: ")
    return error.value.message.removeprefix("fruit.yaml: ")


@pytest.mark.parametrize("name", problem.names())
def test_every_problem_that_ships_can_be_read(name):
    assert problem.load(name).name == name


def test_the_three_problems_ship():
    assert {"flights", "breast_cancer", "diabetes"} <= set(problem.names())


def test_a_path_is_seen_from_the_folder_of_the_yaml_file(tmp_path):
    assert problem.load(write(tmp_path, GOOD)).source.path == tmp_path.resolve() / "table.csv"


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    assert problem.load(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())).title == "Is it ripe?"


def test_a_problem_cannot_be_changed(tmp_path):
    with pytest.raises(ValueError):
        problem.load(write(tmp_path, GOOD)).target = "other"


def test_a_misspelt_name_suggests_the_nearest():
    with pytest.raises(WorkbookError, match="no problem 'fligths', did you mean 'flights'"):
        problem.load("fligths")


@pytest.mark.parametrize("name", ["", ".", "../problems/flights", "nowhere/x.yaml", "*"])
def test_a_name_is_no_way_out_of_the_folder(name):
    with pytest.raises(WorkbookError, match="no problem"):
        problem.load(name)


# (what replaces what in the good file, what the refusal says)
MISTAKES = {
    "unknown key": ("target:", "traget:", "unknown key 'traget', did you mean 'target'?"),
    "unknown key below": ("kind", "kinds", "split: unknown key 'kinds', did you mean 'kind'?"),
    "far key": ("target:", "zzz: 1\ntarget:", "unknown key 'zzz'; known: title, task"),
    "name given": ("target:", "name: x\ntarget:", "name: leave it out"),
    "missing key": ("target: ripe\n", "", "target: Field required"),
    "duplicate key": ("target:", "title: x\ntarget:", "line 4: title: the key comes twice"),
    "duplicate below": ("kind:", "kind: random, kind:", "line 5: kind: the key comes twice"),
    "on": ("Is it ripe?", "on", 'line 1: on: write "on" for the text'),
    "off as a key": ("target:", "exclude: {off: x}\ntarget:", 'line 4: off: write "off"'),
    "true for text": ("Is it ripe?", "true", "title: it should be a valid string, not True"),
    "1e3": ("0.5", "1e3", "split.test_share: it should be less than 1, not 1000.0"),
    "share of 1": ("0.5", "1.0", "split.test_share: it should be less than 1, not 1.0"),
    "share of NaN": ("0.5", ".nan", "split.test_share: it should be"),
    "unknown task": ("classification", "ranking", "task: it should be 'classification' or"),
    "object": ("Is it ripe?", "!!python/object:os.system {}", "could not determine a constructor"),
    "apply": ("Is it ripe?", "!!python/object/apply:os.system [ls]", "could not determine"),
    "key that is a list": ("target:", "[a]: x\ntarget:", "line 4: a key must be text"),
    "no colon": ("target: ripe", "target ripe", "line "),
    "date that is none": ("Is it ripe?", "2013-13-45", "month must be in 1..12"),
    "two sources": ("path: table.csv", "path: a.csv, sklearn: iris", "source: either 'path' or"),
    "no source": ("{path: table.csv}", "{}", "source: either 'path' or 'sklearn' is needed"),
    "unknown set": ("path: table.csv", "sklearn: boston", "source.sklearn: it should be"),
    "short sha256": ("table.csv", "table.csv, sha256: abc", "source.sha256: String should match"),
    "no share": (", test_share: 0.5", "", "split: a 'test_share' is needed"),
    "cutoff of random": ("test_share: 0.5", "cutoff: 3", "split: 'cutoff' belongs to the kind"),
    "cutoff as text": ("0.5", "0.5, cutoff: soon", "split.cutoff: a number or a date (2013-10-01)"),
    "time without column": ("random", "time", "'split' goes by time: 'time' must name"),
    "stratified numbers": ("classification", "regression", None),
    "target excluded": ("target:", "exclude: {ripe: x}\ntarget:", "'ripe' is the target"),
    "exclude without reason": ("target:", "exclude: [a]\ntarget:", "exclude: it should be"),
    "role": (
        "target:",
        "roles: {a: number}\ntarget:",
        "roles.a: it should be 'numeric', 'categorical' or 'date'",
    ),
    "contract": ("target:", "contract: {a: {type: int}}\ntarget:", "contract.a.type: it should be"),
    "contract key": ("target:", "contract: {a: {typ: text}}\ntarget:", "did you mean 'type'?"),
    "bound of text": (
        "target:",
        "contract: {a: {type: text, min: 1}}\ntarget:",
        "1 does not bound",
    ),
    "bounds crossed": (
        "target:",
        "contract: {a: {type: number, min: 2, max: 1}}\ntarget:",
        "contract.a: min 2 is over max 1",
    ),
    "dates crossed": (
        "target:",
        "contract: {a: {type: time, min: 2013-10-02, max: 2013-10-01 12:00:00Z}}\ntarget:",
        "contract.a: min 2013-10-02 is over max 2013-10-01 12:00:00",
    ),
    "part that may be left out": (
        "target:",
        "monitoring: {labels: {path: b.csv, keys: [a]}}\ntarget:",
        "monitoring.labels: unknown key 'keys', did you mean 'key'?",
    ),
    "window": ("target:", "monitoring: {window: week}\ntarget:", "7d, 12h or 1000 rows"),
    "rule": ("target:", "monitoring: {rule: 3 of 2}\ntarget:", "'2 of 3' is the form"),
    "nothing allowed": (
        "target:",
        "contract: {a: {type: text, allowed: []}}\ntarget:",
        "at least 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_key(tmp_path, mistake):
    old, new, says = MISTAKES[mistake]
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    if mistake == "stratified numbers":
        text, says = text.replace("random", "stratified"), "needs classes"
    assert says in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "3"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert refusal(tmp_path, text) == "lines of 'key: value' are needed"


def test_bad_bytes_are_named(tmp_path):
    assert refusal(tmp_path, b"title: caf\xe9") == "byte 10 is not UTF-8"


def test_ten_thousand_brackets_are_refused(tmp_path):
    assert refusal(tmp_path, "title: " + "[" * 10_000) == "too deeply nested"


def test_a_problem_with_a_day_is_as_it_was_known_that_morning():
    split = problem.load("flights@2013-05-27").split
    days = split.validation_cutoff, split.cutoff, split.end
    assert [str(day) for day in days] == ["2013-04-29", "2013-05-13", "2013-05-27"]
    for name in ("flights@2013-05-27", "flights@2013-05-27-90d"):
        assert problem.lasting(name) == name and problem.dated(name)[0] == "flights"
    assert split.begin is None
    assert str(problem.load("flights@2013-05-27-90d").split.begin) == "2013-01-29"
    with pytest.raises(WorkbookError, match="only a problem that is split by time"):
        problem.load("diabetes@2013-05-27")
    with pytest.raises(WorkbookError, match="no problem 'flights@2013-13-01'"):
        problem.load("flights@2013-13-01")


def test_a_column_has_a_label_a_unit_and_a_meaning_where_the_file_says_so():
    flights = problem.load("flights")
    assert flights.called("wind_speed") == "wind speed (miles an hour)"
    assert flights.called("wind_speed", unit=False) == "wind speed"
    assert flights.called("tailnum") == "tailnum" and flights.meaning("tailnum") == ""
    gusts = "gusts: missing where none was reported (miles an hour)"
    assert flights.meaning("wind_gust") == gusts and flights.meaning("distance") == "miles"
    assert flights.meaning("late") == "arrived more than 15 minutes after its schedule"
