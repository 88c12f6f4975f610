"""The space of a sweep: what can be declared, on a line or in a file, and what is refused with its reason."""

import pytest

from Codes.ground.errors import WorkbookError
from Codes.notebook_files import parameters
from Codes.sweeps import space as spaces
from Codes.sweeps.space import Choices, Range

DECLARED = parameters.parse("""
model: str = "hgb"  # which {linear, forest, hgb}
rows: int = 2000  # rows [0, inf)
alpha: float = 0.5  # strength
options: dict = {"depth": 3}
names: list = []
seed: int = 0
flag: bool = False
""")


def typed(*texts, **fixed):
    """The space of `texts` as typed on the command line."""
    return spaces.read(DECLARED, texts=texts, fixed=fixed)


def from_file(tmp_path, text):
    """The space in a file of `text`."""
    path = tmp_path / "space.yaml"
    path.write_text(text, "utf-8")
    return spaces.read(DECLARED, path)


@pytest.mark.parametrize(
    ("text", "name", "spread"),
    [
        ("model=forest,hgb", "model", Choices(("forest", "hgb"))),
        ("rows=10..20", "rows", Range(10, 20)),
        ("rows=10..20:5", "rows", Range(10, 20, 5)),
        ("alpha=1..2", "alpha", Range(1.0, 2.0)),
        ("alpha=1e-3..1:log", "alpha", Range(0.001, 1.0, None, True)),
        ("seed=-3..3", "seed", Range(-3, 3)),
        ("flag=true,false", "flag", Choices((True, False))),
        ("options.depth=2..8", "options.depth", Range(2, 8)),
        ("options.kind=a,2,null", "options.kind", Choices(("a", 2, None))),
        ("options.rate=1e-3,1e-4", "options.rate", Choices((1e-3, 1e-4))),
        ("options.depth=None,3", "options.depth", Choices((None, 3))),
        ("options.layers=[10,10],[20]", "options.layers", Choices(([10, 10], [20]))),
        ("options.color=#fff,#000", "options.color", Choices(("#fff", "#000"))),
        ("names=[a],[b]", "names", Choices((["a"], ["b"]))),
        ("options={depth: 1e3},{rate: ~}", "options", Choices(({"depth": 1e3}, {"rate": None}))),
        ("alpha=1e-300..1:log", "alpha", Range(1e-300, 1.0, None, True)),
        ("rows=0..9007199254740992", "rows", Range(0, 2**53)),
    ],
)
def test_a_small_space_is_typed(text, name, spread):
    assert typed(text).varies == {name: spread}


def test_a_file_holds_fixed_values_choices_ranges_and_keys_of_a_dict(tmp_path):
    found = from_file(
        tmp_path,
        """
model: hgb
rows: [100, 200]
options:
  depth: {low: 2, high: 8, step: 2}
  rate: {low: 0.01, high: 1, log: true}
  loss: log
names: {value: [a, b]}
""",
    )
    assert found.varies == {
        "rows": Choices((100, 200)),
        "options.depth": Range(2, 8, 2),
        "options.rate": Range(0.01, 1, None, True),
    }
    point = {"rows": 100, "options.depth": 4, "options.rate": 0.1}
    assert found.values(point) == {
        "model": "hgb",
        "names": ["a", "b"],
        "rows": 100,
        "options": {"depth": 4, "loss": "log", "rate": 0.1},
    }


def test_keys_of_a_dict_are_varied_beside_its_default():
    found = typed("options.rate=1,2")
    assert found.values({"options.rate": 2})["options"] == {"depth": 3, "rate": 2}


def test_numbers_in_a_file_may_be_written_with_an_exponent(tmp_path):
    found = from_file(
        tmp_path, "alpha: {low: 1e-5, high: 1E1, log: true}\noptions: {depth: [None, 3]}"
    )
    assert found.varies == {
        "alpha": Range(1e-5, 10.0, None, True),
        "options.depth": Choices((None, 3)),
    }


def test_the_grid_has_every_point_in_its_order():
    found = typed("model=linear,hgb", "alpha=0..1:0.5")
    points = [tuple(point.values()) for point in found.grid()]
    models = ["linear", "hgb"]
    assert points == [(m, a) for m in models for a in (0.0, 0.5, 1.0)] and found.size() == 6


def test_a_later_word_replaces_an_earlier_one(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("rows: [1, 2]\noptions: {depth: [1, 2]}", "utf-8")
    found = spaces.read(DECLARED, path, ["rows=5..6"], {"options": {"depth": 9}})
    assert found.varies == {"rows": Range(5, 6)}
    assert found.values({"rows": 5}) == {"options": {"depth": 9}, "rows": 5}


def test_a_space_survives_being_written(tmp_path):
    found = typed("model=linear,hgb", "options.rate=0.1..1:log", rows=5)
    assert from_file(tmp_path, found.text()) == found
    alike = typed("model=hgb,forest", options={"depth": 3, "b": "1e-3", "c": None})
    assert from_file(tmp_path, alike.text()) == alike


def test_choices_with_parts_and_alike_ones_come_back_as_they_were():
    for values in ([[1, 2], [3]], [1, True], [1, 1.5, "1"]):
        spread = Choices(tuple(values))
        back = [spread.decode(spread.encode(v)) for v in values]
        assert back == values and [type(v) for v in back] == [type(v) for v in values]
        spread.distribution()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("alpha=0..1:0.3", [0.0, 0.3, 0.6, 0.9]),
        ("alpha=0..5e-13:1e-13", [0.0, 1e-13, 2e-13, 3e-13, 4e-13, 5e-13]),
        ("rows=0..5:2", [0, 2, 4]),
    ],
)
def test_a_range_has_the_numbers_that_its_steps_reach_and_optuna_has_the_same(text, numbers):
    spread = typed(text).varies[text.partition("=")[0]]
    assert spread.all() == numbers and spread.distribution().high == numbers[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle=a,b", "no parameter 'modle'.*Did you mean 'model'"),
        ("rows", "write name=1..10"),
        ("rows=", "write name=1..10"),
        ("rows=5..2", "must be below"),
        ("rows=1..2:0", "'step' 0 must be over 0"),
        ("rows=0.5..2", "the parameter is int"),
        ("rows=0..9:log", "logarithmic range starts above 0"),
        ("model=1..3", "a range is of numbers; the parameter is str"),
        ("rows=1,1", "the choice 1 comes twice"),
        ("rows.x=1..3", "only a dict has keys; rows is int"),
        ("options.=1..3", "only a dict has keys"),
        ("options.depth=yes,no", 'write "yes" for the text'),
        ("options.depth=1,,2", "a choice is empty"),
        ("options.depth=1..x", "a range is low..high"),
        ("rows=1..5..6", "a range is low..high"),
        ("rows=5..5", "must be below"),
        ("rows=0..inf", "both finite"),
        ("alpha=nan..1", "both finite"),
        ("alpha=0..1e400", "both finite"),
        (f"rows=0..{'9' * 5000}", "both finite"),
        (
            f"rows=0..{10**20}",
            r"Optuna samples whole numbers within ±9,007,199,254,740,992 \(2\*\*53\)",
        ),
        (f"options.depth=-{2**63}..1", "Optuna samples whole numbers within"),
        ("alpha=-1e308..1e308", "Optuna samples ranges that are"),
        ("alpha=0..5e-324", "Optuna samples ranges that are"),
        ("alpha=0..1:1e-20", "over 9,007,199,254,740,992.*steps"),
        ("alpha=0..1:5", "'step' 5 leads from 'low' 0 over 'high' 1"),
        ("alpha=-1..1:log", "logarithmic range starts above 0"),
    ],
)
def test_what_cannot_be_a_space_is_refused_with_its_reason(text, said):
    with pytest.raises(WorkbookError, match=said):
        typed(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model=hgb,tree", "must be one of linear, forest, hgb"),
        ("rows=-5..5", r"within \[0, inf\)"),
        ("rows=1,x", "must be int"),
    ],
)
def test_what_the_notebook_would_refuse_is_refused_at_once(text, said):
    with pytest.raises(WorkbookError, match=said):
        typed(text).check("n.ipynb")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpha: {low: 1, hihg: 2}", "unknown: hihg.*Did you mean 'high'"),
        ("alpha: {low: 1}", "needs numbers 'low' and 'high'"),
        ("alpha: {low: a, high: b}", "needs numbers"),
        ("alpha: {low: 1, high: .inf}", "both finite"),
        ("alpha: {low: 1e-5, high: nan}", "both finite"),
        ("rows: {low: 0, high: 100000000000000000000}", "Optuna samples whole numbers"),
        ("rows: {low: 0, high: 1e20}", "must be whole numbers"),
        ("alpha: {low: 1, high: 2, log: 3}", "true or false"),
        ("rows: []", "must not be empty"),
        ("rows: 1\nrows: 2", "comes twice"),
        ("rows: on", "write"),
        ("- 1", "key: value"),
    ],
)
def test_a_file_that_is_no_space_is_refused_by_its_name(tmp_path, text, said):
    with pytest.raises(WorkbookError, match=f"space.yaml.*{said}"):
        from_file(tmp_path, text)


def test_a_grid_without_end_or_over_the_limit_is_refused_with_its_size():
    with pytest.raises(WorkbookError, match="alpha is a continuous range"):
        typed("alpha=0..1").grid()
    with pytest.raises(WorkbookError, match="the grid has 1,000,000 points; allowed are 10,000"):
        typed("rows=1..1000", "seed=1..1000").grid()
    with pytest.raises(WorkbookError, match="the grid has 1,000,000,000 points"):
        typed("rows=1..1000000000").grid()
