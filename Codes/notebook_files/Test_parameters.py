"""The parameters cell is the interface, and a value is data: it never becomes code."""

import ast
import math
import os
from datetime import date, datetime
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from Codes.ground.errors import WorkbookError
from Codes.notebook_files import parameters

CELL = """
problem: str = "flights"  # which problem to solve
model: str = "hgb"  # the estimator {dummy, hgb, *.*}
hyperparameters: dict = {}  # passed to the estimator
rows: int = 20000  # rows to use, 0 for all [0, inf)
share: float = 0.5  # held out (0, 1)
verbose = False
columns: list[str] = []
note: str | None = None
when = today()
"""


def check(source, **values):
    """The checked values of a cell `source`, given `values`."""
    return parameters.check(parameters.parse(source), values, "nb.ipynb")


def typed(source, text):
    """The checked value of the first parameter of `source` when `text` is typed for it."""
    declared = parameters.parse(source)
    name = declared[0].name
    return parameters.check(declared, parameters.from_text(declared, {name: text}), "nb.ipynb")[
        name
    ]


def refused(source, text):
    """The one-line message with which the typed `text` is refused."""
    with pytest.raises(WorkbookError) as error:
        typed(source, text)
    assert "\n" not in error.value.message
    return error.value.message


def notebook(*tags):
    """A notebook with a cell `seed = 0` for each of `tags`, tagged so."""
    cells = [nbformat.v4.new_code_cell("seed = 0", metadata={"tags": [tag]}) for tag in tags]
    return nbformat.v4.new_notebook(cells=cells)


# The cell as the interface


def test_a_cell_gives_names_types_defaults_help_and_domains():
    found = {p.name: p for p in parameters.parse(CELL)}
    assert list(found)[:4] == ["problem", "model", "hyperparameters", "rows"]
    assert [found[n].type for n in ("rows", "share", "verbose", "columns", "note", "when")] == [
        *("int", "float", "bool", "list", "str", None)
    ]
    assert (found["rows"].default, found["rows"].help) == (20000, "rows to use, 0 for all")
    assert found["rows"].interval == (0, math.inf, True, False)
    assert found["model"].choices == ("dummy", "hgb", "*.*")
    assert found["note"].optional and not found["rows"].optional
    assert found["when"].default == "today()"


@pytest.mark.parametrize(
    "annotation, kind, optional",
    [
        ("int | None", "int", True),
        ("Optional[float]", "float", True),
        ("typing.Optional[float]", "float", True),
        ("Union[int, str, None]", "int | str", True),
        ("int | float", "int | float", False),
        ("'int'", "int", False),
        ("'not valid('", None, False),
        ("dict[str, float]", "dict", False),
        ("List[int]", "list", False),
        ("Literal['auto', 1]", "str | int", False),
        ("Literal[None, 'a']", "str", True),
        ("Literal[f()]", None, False),
        ("np.ndarray | int", None, False),
    ],
)
def test_an_annotation_is_read_as(annotation, kind, optional):
    found = parameters.parse(f"x: {annotation} = 1")[0]
    assert (found.type, found.optional) == (kind, optional)


@pytest.mark.parametrize(
    "comment, words, allowed",
    [
        ("ridge strength", "ridge strength", ""),
        ("strength [0, 1)", "strength", "within [0, 1)"),
        ("strength (-1.5, 1e3]", "strength", "within (-1.5, 1000]"),
        ("which {a, b}", "which", "one of a, b"),
        ("needs versions [1.2.3, 2.0.0]", "needs versions [1.2.3, 2.0.0]", ""),
        ("see [5] and (6)", "see [5] and (6)", ""),
    ],
)
def test_a_comment_ends_in_a_domain_or_is_all_help(comment, words, allowed):
    found = parameters.parse(f"x = 1  # {comment}")[0]
    assert (found.help, found.allowed) == (words, allowed)


def test_two_tagged_cells_are_refused_and_none_takes_no_parameters():
    with pytest.raises(WorkbookError, match="2 cells are tagged 'parameters'.*merge"):
        parameters.of(notebook("parameters", "parameters"))
    assert not parameters.of(notebook("other"))
    assert [p.name for p in parameters.of(notebook("parameters"))] == ["seed"]
    with pytest.raises(WorkbookError, match="no cell tagged 'parameters'"):
        parameters.check([], {"seed": 1}, "nb.ipynb")
    assert not parameters.check([], {})


@pytest.mark.parametrize(
    "source, said",
    [
        ("print: int = 3", "'print' is a builtin"),
        ("class = 3", "not valid Python"),
        ("x = (", "not valid Python"),
        ("x = 1\0", "not valid Python"),
    ],
)
def test_a_cell_that_cannot_be_one_is_refused(source, said):
    with pytest.raises(WorkbookError, match=said):
        parameters.parse(source, "nb.ipynb")


# What else a cell does

DERIVED = """debug: bool = True
n: int = 10
m = n * 2
rows: int = 1000
if debug:
    rows = 100
"""


def test_what_is_computed_or_may_be_changed_is_left_to_the_kernel():
    found = {p.name: p for p in parameters.parse(DERIVED)}
    origins = {name: p.origin for name, p in found.items()}
    assert origins == {
        "debug": "True",
        "n": "10",
        "m": "computed: n * 2",
        "rows": "1000, or as line 5 says",
    }
    values = check(DERIVED, rows=5)
    assert (values["n"], values["rows"]) == (10, 5)
    assert isinstance(values["m"], parameters.Computed)
    assert isinstance(check(DERIVED)["rows"], parameters.Computed)


@pytest.mark.parametrize(
    "source, values, line",
    [
        (DERIVED, {"n": 50}, "line 3.*: m = n \\* 2"),
        (DERIVED, {"debug": False}, "line 5.*: if debug:"),
        ("seed = 0\nnp.random.seed(seed)", {"seed": 1}, "line 2"),
        ("seed = 0\nos.environ['SEED'] = f'{seed}'", {"seed": 1}, "line 2"),
        ("a = 1\ndef f(): return a\nb = f()", {"a": 2}, "line 3"),
        ("a = 1\nb = a\nc = b", {"b": 2}, "line 3"),
        ("%load_ext x\na = 1\nb = f'{a}'", {"a": 2}, "line 3"),
    ],
)
def test_a_parameter_from_which_the_cell_computes_is_not_values_past_it(source, values, line):
    with pytest.raises(WorkbookError, match=f"cannot be given, since {line}"):
        check(source, **values)


@pytest.mark.parametrize(
    "source, values",
    [
        (DERIVED, {"n": 10}),  # as it is
        (DERIVED, {"n": 50, "m": 7}),
        (DERIVED, {"debug": False, "rows": 7}),
        ("a = 1\ndef f(): return a", {"a": 2}),  # which nothing calls before a is given
        ("a = 1\na *= 2", {"a": 2}),
        ("a = {}\na['b'] = 3", {"a": {"c": 1}}),
    ],
)
def test_what_follows_or_is_replaced_may_be_values(source, values):
    found = check(source, **values)
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize(
    "line",
    ["a *= 2", "a['x'] = 1", "a.update(x=1)", "from x import *", "%run x.py", "exec(code)"]
    + ["for a in b: pass", "def f():\n    global a", "b = (a := 1)", "del a"],
)
def test_a_default_that_a_statement_may_change_is_not_taken_for_the_value(line):
    assert isinstance(check(f"a = {{}}\n{line}")["a"], parameters.Computed)


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "%load_ext x",
        "%matplotlib inline",
        "!ls",
        "b = 2",
        "print(a)",
        "sys.path += []",
    ],
)
def test_a_number_stays_what_it_is_beside_other_statements(line):
    assert check(f"a = 1\n{line}")["a"] == 1


@pytest.mark.parametrize(
    "source, values",
    [
        ("lo, hi = 0, 10", {"lo": 0, "hi": 10}),
        ("a = b = 3", {"a": 3, "b": 3}),
        ("a, (b, c) = 1, [2, 'x']", {"a": 1, "b": 2, "c": "x"}),
        ("%%time\na = 1", {"a": 1}),
        ("a = 1\na = 2", {"a": 2}),
        ("c: int", {}),
        ("a, *b = 1, 2, 3", {"a": "*(1, 2, 3)", "b": "*(1, 2, 3)"}),
    ],
)
def test_assignments_are_read_however_they_are_written(source, values):
    assert check(source) == values


def test_a_name_without_a_value_is_a_parameter_that_may_be_given():
    assert check("c: int", c=3) == {"c": 3}
    with pytest.raises(WorkbookError, match="it must be int"):
        check("c: int", c="x")
    assert parameters.parse("c: int")[0].origin == "none: give one"


def test_a_tagged_cell_without_names_is_not_called_untagged():
    with pytest.raises(WorkbookError, match="no cell tagged 'parameters' that gives a name"):
        check("import os", a=1)


BASH = "# sizes\nexport x=1\nname='a b'  # who\nyear=$(date +%Y)\ntwice=$((x * 2))"
R = 'n <- 5L\nname = "a"\nis_on <- TRUE\nrate <- 1e-3 # a rate\nnone <- NULL\nlater <- n * 2'


def foreign(source, language, **values):
    """The checked values of a cell `source` in `language`."""
    notebook_ = notebook("parameters")
    notebook_.metadata.kernelspec = {"name": language.lower(), "language": language}
    notebook_.cells[0].source = source
    return parameters.check(parameters.of(notebook_), values)


def test_cells_in_other_languages_are_read_by_their_lines():
    found = foreign(BASH, "bash")
    assert found == {"x": "1", "name": "a b", "year": "$(date +%Y)", "twice": "$((x * 2))"}
    assert [n for n, v in found.items() if isinstance(v, parameters.Computed)] == ["year", "twice"]
    found = foreign(R, "R", rate=0.5)
    assert found == {
        "n": 5,
        "name": "a",
        "is_on": True,
        "rate": 0.5,
        "none": None,
        "later": "n * 2",
    }
    assert foreign("val x: Int = 3;", "scala") == {"x": 3}
    with pytest.raises(WorkbookError, match="n cannot be given, since line 6"):
        foreign(R, "R", n=6)
    with pytest.raises(WorkbookError, match="no parameter 'nam'.*Did you mean 'name'"):
        foreign(R, "R", nam="b")


def test_beside_other_lines_no_default_of_another_language_is_taken_for_the_value():
    assert isinstance(foreign("x=1\n. ./settings.sh", "bash")["x"], parameters.Computed)


# Names


@pytest.mark.parametrize(
    "name", ["class", "x=1\nimport os", "a;b", "a#b", "1a", "", "a.b", "lambda", 3]
)
def test_what_is_no_python_name_is_no_parameter(name):
    with pytest.raises(WorkbookError, match="not a parameter name") as error:
        parameters.check(parameters.parse(CELL), {name: 1}, "nb.ipynb")
    assert "\n" not in error.value.message


def test_a_misspelt_name_is_refused_with_the_nearest():
    with pytest.raises(
        WorkbookError, match="nb.ipynb has no parameter 'modle'.*Did you mean 'model'?"
    ):
        check(CELL, modle="hgb")
    with pytest.raises(WorkbookError, match="it takes problem, model") as error:
        check(CELL, zzz=1)
    assert "Did you mean" not in error.value.message


# Values, typed and given


@pytest.mark.parametrize(
    "source, text, value",
    [
        ("x: int = 0", "3", 3),
        ("x: int = 0", "-3", -3),
        ("x: float = 0.0", "3", 3.0),
        ("x: float = 0.0", "1e-3", 1e-3),
        ("x: bool = False", "True", True),
        ("x: bool = False", "true", True),
        ("x: str = ''", "3", "3"),
        ("x: str = ''", "null", "null"),
        ("x: str = ''", "{a} ' \" # ; \\", "{a} ' \" # ; \\"),
        ("x: str | None = 'a'", "None", None),
        ("x: int | None = 0", "null", None),
        ("x: int | str = 0", "auto", "auto"),
        ("x: int | str = 0", "7", 7),
        ("x: int | float = 0", "0.5", 0.5),
        ("x: int | float = 0", "5", 5),
        ("x: list = []", "[1, a]", [1, "a"]),
        ("x: dict = {}", '{"a": null}', {"a": None}),
        ("x: dict = {}", "{a: 1}", {"a": 1}),
        ("x: Literal['auto', 1] = 1", "auto", "auto"),
        ("x: Literal['auto', 1] = 'auto'", "1", 1),
        ("x: str = 'a'  # {a, *.*}", "sklearn.svm.SVC", "sklearn.svm.SVC"),
        ("x: int = 1  # [0, 9]", "9", 9),
        ("x: float = 1.0  # (0, inf]", "inf", math.inf),
        ("x: float = float('-inf')", "inf", math.inf),
        (
            "x: dict = {}",
            "{a: 1e-3, b: None, c: ~, d: 2E+3}",
            {"a": 1e-3, "b": None, "c": None, "d": 2e3},
        ),
        ("x: list = []", "[.5, 'None', \"1e-3\", none]", [0.5, "None", "1e-3", "none"]),
        ("x: float | list = 0.0", "[a, 1e3]", ["a", 1e3]),
        ("x: str | None = 'a'", "~", None),
        ("x: str = ''", "1e-3", "1e-3"),
        ("x: str = ''", "None", "None"),
        ("x = None", "1e-3", 1e-3),
        ("x = None", "# a: b", "# a: b"),
        ("x = None", "-", "-"),
    ],
)
def test_what_is_typed_is_read_by_the_declared_type(source, text, value):
    found = typed(source, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "source, text, said",
    [
        ("x: int = 0", "abc", "x='abc' is str; it must be int (default 0)"),
        ("x = 0", "0.5", "is float; it must be int"),
        ("x: int = 0", "1e3", "is float; it must be int"),
        ("x: int = 0", "True", "is bool; it must be int"),
        ("x: int = 0", "012", "must be int"),
        ("x: int = 0", "1:30", "must be int"),
        ("x: int = 0", "2001-99-99", "must be int"),
        ("x: int = 0", "9" * 5000, "must be int"),
        ("x: int = 0", "", "None is not allowed"),
        ("x: int = 0", "null", "None is not allowed"),
        ("x: int = 0", "env:SEED", "must be int"),
        ("x: int = 0", "!!python/object/apply:os.getcwd []", "must be int"),
        ("x: bool = True", "on", "must be bool"),
        ("x: bool = True", "1", "must be bool"),
        ("x: float = 0.0", "fast", "must be float"),
        ("x: float = 0.0", "nan", "must be finite"),
        ("x: float = 0.0", "-inf", "must be finite"),
        ("x: float = 0.0", "9" * 400, "must be float"),
        ("x: dict = {}", '{"a": [NaN]}', "must be finite"),
        ("x: dict = {}", "[1]", "must be dict"),
        ("x: dict = {}", '{"a": 1, "a": 2}', "'a' comes twice"),
        ("x: dict = {}", "{a: 1, a: 2}", "a: the key comes twice"),
        ("x: dict = {}", "{1: 2}", "the key 1 is int; keys must be str"),
        ("x: dict = {}", "{max_depth:6}", "a space is missing after the colon: {max_depth: 6}"),
        ("x: dict = {}", "{a, b: 1}", "a: the key has no value; write {a: null}"),
        ("x: dict = {}", "{a: nan}", "must be finite"),
        ("x: dict = {}", "{a: yes}", 'write "yes" for the text'),
        ("x = None", "yes", 'write "yes" for the text'),
        ("x: list = []", "[" * 100_000, "too deeply nested"),
        ("x: list = []", "[" * 60 + "]" * 60, "too deeply nested"),
        ("x: list = []", "&a [*a]", "too deeply nested"),
        ("x: str = ''", "\udcff", "cannot be written as UTF-8"),
        ("x: str = 'hgb'  # {hgb, forest}", "forrest", "Did you mean 'forest'?"),
        ("x: str = 'hgb'  # {hgb, *.*}", "x", "it must be one of hgb, *.*"),
        ("x: Literal['a', 'b'] = 'a'", "c", "it must be one of a, b"),
        ("x: int = 1  # [0, 9)", "9", "it must be within [0, 9)"),
        ("x: float = 1.0  # (0, 9]", "0", "it must be within (0, 9]"),
        ("x = f()  # [0, 1]", "abc", "it must be within [0, 1]"),
    ],
)
def test_what_is_not_allowed_is_refused_with_what_is(source, text, said):
    message = refused(source, text)
    assert said in message and len(message) < 500


@pytest.mark.parametrize(
    "value, plain",
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2013-10-01"), "2013-10-01"),
        (date(2013, 10, 1), "2013-10-01"),
        (datetime(2013, 10, 1, 5), "2013-10-01T05:00:00"),
        (Path("a/b"), "a/b"),
        ([np.int64(1), {"a": Path("b")}], [1, {"a": "b"}]),
    ],
)
def test_scalars_dates_and_paths_become_plain(value, plain):
    found = check("x = f()", x=value)["x"]
    assert found == plain and type(found) is type(plain)


@pytest.mark.parametrize(
    "value", [(1, 2), {1}, b"a", 1j, object(), np.arange(3), [(1,)], {"a": {1}}, range(3)]
)
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(
        WorkbookError, match="allowed are bool, int, float, str, None, list and dict"
    ):
        check("x = f()", x=value)


def test_nan_and_infinities_survive_json():
    assert parameters.storable({"a": [math.nan, 1.5]}) == {"a": ["nan", 1.5]}
    assert check("x: float = float('nan')", x="-inf")["x"] == -math.inf


def test_defaults_come_back_beside_what_was_given():
    values = check(CELL, rows=5, share=0.25)
    assert (values["rows"], values["share"], values["model"], values["note"]) == (
        5,
        0.25,
        "hgb",
        None,
    )


# Secrets


@pytest.mark.parametrize(
    "source, value",
    [
        ("password = ''", "hunter2"),
        ("db_pwd = ''", "hunter2"),
        ("apiKey = ''", "k3yAbc"),
        ("token = ''", "Bearer a1b2c3d4"),
        ("secret = ''", "abcdefghijklmnopqrstuvwxyzabcdef"),
        ("token: str = ''  # no secret", "https://me:hunter2@host/db"),
        ("note = ''", "AKIA" + "A" * 16),
        ("note = ''", "ghp_" + "a" * 36),
        ("note = ''", "https://me:hunter2@host/db"),
        ("note = ''", "-----BEGIN RSA PRIVATE KEY-----"),
        ("note: dict = {}", {"deep": [{"auth-token": "hunter2"}]}),
        ("note: list = []", ["x", "AKIA" + "A" * 16]),
        ("seed: int = 0", "AKIA" + "A" * 16),
    ],
)
def test_a_secret_is_refused_and_not_repeated(source, value):
    name = source.split("=")[0].split(":")[0].strip()
    with pytest.raises(WorkbookError, match="looks like a secret.*env:MY_VARIABLE") as error:
        check(source, **{name: value})
    assert "hunter2" not in error.value.message and "AKIA" not in error.value.message


@pytest.mark.parametrize(
    "source, value",
    [
        ("pad_token = ''", "<pad>"),
        ("eos_token = ''", "</s>"),
        ("mask_token = ''", "[MASK]"),
        ("sep_token = ''", "\n"),
        ("stop_token = ''", "end of_text"),
        ("token = ''", "50256"),
        ("token: str | None = ''", None),
        ("password = ''", "<password>"),
        ("max_tokens = ''", "4096x"),
        ("model = ''", "risk-averse-model-of-1990-and-later"),
        ("token = ''  # which of the tokenizer's (no secret)", "cl100k"),
        ("names: dict = {}  # no secret", {"token": "cl100k"}),
    ],
)
def test_a_mere_word_is_no_secret_nor_is_what_its_comment_says_is_none(source, value):
    name = source.split("=")[0].split(":")[0].strip()
    assert check(source, **{name: value})[name] == value


def test_a_secret_default_is_refused_but_an_expression_that_reads_one_is_not():
    with pytest.raises(WorkbookError, match="looks like a secret"):
        check("token = 'hunter2'")
    assert (
        check("token = os.environ['TOKEN']\nmax_tokens = 'many'\npassword = ''")["password"] == ""
    )


def test_a_secret_that_the_session_holds_is_not_recorded():
    source = "key = os.environ['MY_TOKEN']\nurl = make()\npassword = f()\nname = f()\nn = g()"
    held = {
        "key": "hunter2",
        "url": "https://me:hunter2@host",
        "password": "x",
        "name": "a",
        "n": 3,
    }
    found = parameters.recorded(parameters.parse(source), held)
    hidden = dict.fromkeys(("key", "url", "password"), parameters.HIDDEN)
    assert found == hidden | {"name": "a", "n": 3}


def test_a_reference_passes_and_becomes_a_lookup():
    values = check(
        "token: str = ''\nnested: dict = {}", token="env:MINE", nested={"password": "env:OTHER"}
    )
    assert parameters.references(values) == ["MINE", "OTHER"]
    os.environ |= {"MINE": "'; 1/0 #", "OTHER": "b"}
    try:
        space = {}
        exec(parameters.assignment(values), space)  # pylint: disable=exec-used
    finally:
        del os.environ["MINE"], os.environ["OTHER"]
    assert (space["token"], space["nested"]) == ("'; 1/0 #", {"password": "b"})


# Values are data

TEXTS = st.one_of(
    st.text(),
    st.text("\\'\"{}%#;\n\r\0\x85\u2028`$ "),
    st.sampled_from(
        ["env:HOME", "__import__('os').abort()", "'''", '"""', "\\N{DASH}", "${HOME}", "%run x"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


def is_allowed_call(node):
    """Whether `node` is float() of NaN or an infinity, or the import inside a lookup."""
    return ast.unparse(node) in {
        "float('nan')",
        "float('inf')",
        "float('-inf')",
        "__import__('os')",
    }


def is_data(node):
    """Whether `node` is a literal, or a form that stands for NaN, inf and references."""
    lookups = [n for n in ast.walk(node) if isinstance(n, ast.Subscript)]
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    kinds = (
        ast.Constant,
        ast.List,
        ast.Dict,
        ast.UnaryOp,
        ast.USub,
        ast.Load,
        ast.Name,
        ast.Attribute,
    )
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    return (
        all(isinstance(n, (*kinds, ast.Call, ast.Subscript)) for n in ast.walk(node))
        and all(map(is_allowed_call, calls))
        and names <= {"float", "__import__"}
        and all(ast.unparse(n.value) == "__import__('os').environ" for n in lookups)
        and all(n.attr == "environ" for n in ast.walk(node) if isinstance(n, ast.Attribute))
    )


def resolved(value):
    """`value` with each reference replaced by what the environment holds."""
    if isinstance(value, str) and value.startswith("env:"):
        return os.environ[value[4:]]
    if isinstance(value, list):
        return [resolved(v) for v in value]
    return {k: resolved(v) for k, v in value.items()} if isinstance(value, dict) else value


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
@example(value="\nimport os; os.abort()\n")
@example(value={"'] = 1; import os #": [math.nan, -math.inf, -0.0, 2**70]})
def test_any_value_comes_back_from_its_cell_and_nothing_else_runs(value):
    references = [v for v in parameters.references(value) if v in os.environ]
    if len(references) != len(parameters.references(value)):
        return  # a variable that is not there; the engine refuses it
    (statement,) = ast.parse(parameters.assignment({"x": parameters.plain("x", value)})).body
    assert isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "x"
    assert is_data(statement.value)
    expression = compile(ast.Expression(statement.value), "cell", "eval")
    assert repr(eval(expression)) == repr(resolved(value))  # pylint: disable=eval-used


def test_the_proof_itself_notices_code():
    for code in (
        "f()",
        "float('1')",
        "[x for x in y]",
        "__import__('sys').path",
        "os.environ['A']",
        "1 + 1",
    ):
        assert not is_data(ast.parse(code, mode="eval").body), code


@settings(max_examples=100, deadline=None)
@given(name=st.text(), value=VALUES)
def test_any_name_and_value_are_taken_or_refused_in_one_line(name, value):
    try:
        values = parameters.check(parameters.parse(CELL), {name: value}, "nb.ipynb")
        assert name in values
    except WorkbookError as error:
        assert "\n" not in error.message


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, parameter=st.sampled_from(parameters.parse(CELL)))
def test_any_text_typed_for_any_parameter_is_taken_or_refused_in_one_line(text, parameter):
    try:
        values = parameters.check(
            [parameter], parameters.from_text([parameter], {parameter.name: text})
        )
        assert list(values) == [parameter.name]
    except WorkbookError as error:
        assert "\n" not in error.message
