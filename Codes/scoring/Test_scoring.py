"""Tables are scored whole: each row has a score or a reason, whatever is killed; what was there before is safe."""

import contextlib
import gzip
import itertools
import os
import resource
import shutil
import signal
import sys
import tracemalloc
import warnings
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from distributed import Client
from filelock import FileLock

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import DATA, ROOT
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.scoring import job, output, predictors
from Codes.serving.client import free_port
from Codes.testing.cases import sampled
from Codes.testing.testbed import FORKS, wait_for, write_problem
from Codes.trial_workers.Test_cluster import Part as Process

FLIGHTS = DATA / "flights.parquet"
ROWS = 4000


@dataclass(frozen=True)
class Version:
    """As the registry has it."""

    name: str = "flights"
    number: int = 3
    run_id: str = "0123456789abcdef0123456789abcdef"


def saved(folder, name, model="hgb", **hyperparameters):
    """A model of the problem `name`, saved as models.log does it, and loaded again."""
    described = problem.load(name)
    frame = data.load(described, 3000)
    X, y = data.features(frame, described), data.target(frame, described)
    pipeline = models.build(described, X, model, hyperparameters).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            pipeline,
            folder,
            serialization_format="skops",
            skops_trusted_types=models.saved(pipeline)[1],
            signature=models._signature(pipeline, X),  # pylint: disable=protected-access
            input_example=X.head(3),
            metadata={trust.READING: data.reading(X)},
            pip_requirements=models.requirements(),
        )
    return trust.load(folder)


@pytest.fixture(scope="module", name="place")
def fixture_place(tmp_path_factory):
    """A folder with a model, tables, and the scores of one that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("scoring")
    model = saved(
        folder / "model", "flights", "linear"
    )  # no OpenMP, whose small steps wait long on a busy machine
    table = pq.read_table(FLIGHTS).slice(0, ROWS)
    pq.write_table(table, folder / "t.parquet", row_group_size=700)
    pa_csv.write_csv(table, folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    (folder / "undisturbed").mkdir()
    run(model, folder / "t.parquet", folder / "undisturbed" / "s.parquet")
    return folder


@pytest.fixture(scope="module", name="model")
def fixture_model(place):
    """The model of flights."""
    return trust.load(place / "model")


def run(model, table, out, version=None, **options):
    """Score in batches of 500; returns (summary, lines told)."""
    lines = []
    options = {"batch_rows": 500, "say": lines.append} | options
    done = job.score(version or Version(), model, table, out, **options)
    assert done.rows == done.scored + done.rejected
    return done, lines


def refused(model, table, out, **options):
    """The one line with which a scoring is refused; nothing new lies beside `out` then."""
    before = {p: p.read_bytes() for p in out.parent.glob("*") if p.is_file()}
    with pytest.raises(WorkbookError) as error:
        run(model, table, out, **options)
    assert "\n" not in error.value.message
    assert {p: p.read_bytes() for p in out.parent.glob("*") if p.is_file()} == before
    return error.value.message


def files(folder, name="s."):
    """{name: bytes} of the files in `folder` that a scoring wrote."""
    return {p.name: p.read_bytes() for p in folder.glob(f"{name}*")}


# --- what comes out


@pytest.mark.parametrize(
    ("given", "ending"),
    sampled(
        itertools.product(["t.parquet", "t.csv", "t.csv.gz"], [".parquet", ".csv", ".csv.gz"]),
        ("t.parquet", ".csv"),
        ("t.csv", ".csv.gz"),
        ("t.csv.gz", ".parquet"),
    ),
)
def test_every_form_gives_the_models_own_answers_beside_the_table(
    place, model, tmp_path, given, ending
):
    out = tmp_path / f"s{ending}"
    done, _ = run(model, place / given, out)
    read = pd.read_parquet if ending == ".parquet" else pd.read_csv
    scores, table = read(out), pd.read_parquet(FLIGHTS)[:ROWS]
    bad = pd.read_csv if ending != ".parquet" else pd.read_parquet
    bad_rows = bad(done.side)["input row"].to_numpy() - 1 if done.side else []
    table = table.drop(index=bad_rows).reset_index(drop=True)
    assert len(scores) == len(table) == done.scored > ROWS * 0.9
    assert scores["prediction"].tolist() == model.predict(table).tolist()
    found = scores[["probability of False", "probability of True"]].to_numpy()
    assert np.allclose(found, model.probabilities(table), rtol=1e-12)
    assert scores["tailnum"].fillna("").tolist() == table["tailnum"].fillna("").tolist()
    assert scores["distance"].tolist() == table["distance"].tolist()
    assert set(scores["model"]) == {"flights"} and set(scores["model_version"]) == {3}
    assert set(scores["run_id"]) == {Version().run_id}
    assert list(scores.columns[: len(table.columns)]) == list(table.columns)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [out.name, f"{out.name}.receipt.json", *([done.side.name] if done.side else [])]
    )


def test_a_parquet_file_keeps_its_types_and_tells_where_it_came_from(place):
    found = pq.read_schema(place / "undisturbed" / "s.parquet")
    given = pq.read_schema(FLIGHTS)
    assert [found.field(name).type for name in given.names] == given.types
    assert pa.types.is_dictionary(found.field("run_id").type)
    assert b'"model_version": 3' in found.metadata[output.METADATA]


def test_the_size_of_batches_changes_no_score(place, model, tmp_path):
    run(model, place / "t.parquet", tmp_path / "s.parquet", batch_rows=3999)
    whole = pq.read_table(tmp_path / "s.parquet")
    assert whole.equals(pq.read_table(place / "undisturbed" / "s.parquet"))


@pytest.mark.parametrize(
    "name, kind",
    sampled(
        [("flights", "hgb"), ("flights", "forest"), ("flights", "dummy")]
        + [("iris", "linear"), ("iris", "hgb"), ("diabetes", "hgb")]
        + [("breast_cancer", "sklearn.svm.LinearSVC"), ("iris", "sklearn.naive_bayes.GaussianNB")],
        ("flights", "forest"),
        ("iris", "linear"),
        ("diabetes", "hgb"),
        "breast_cancer",
    ),
)
def test_predictions_are_those_of_predict_for_every_kind_of_model(tmp_path, name, kind):
    small = {"forest": {"n_estimators": 5}, "hgb": {"max_iter": 5}}.get(kind, {})
    if name == "iris":
        name = write_problem(tmp_path, "iris", "target", source={"sklearn": "iris"})
    model = saved(tmp_path / "model", name, kind, **small)
    table = data.features(data.load(problem.load(name), 500), problem.load(name))
    table.to_parquet(tmp_path / "t.parquet")
    done, _ = run(model, tmp_path / "t.parquet", tmp_path / "s.parquet", allow_unknown=True)
    scores = pd.read_parquet(tmp_path / "s.parquet")
    assert done.scored == len(table)
    assert scores["prediction"].tolist() == model.predict(table).tolist()
    told = [c for c in scores if c.startswith("probability of ")]
    assert bool(told) == (model.probabilities(table) is not None)


def test_two_classes_as_probable_as_each_other_are_told_apart_as_predict_does(tmp_path):
    frame = pd.DataFrame({"x": [0.0, 0.0, 1.0, 1.0] * 20, "y": [0, 1, 0, 1] * 20})
    frame.to_parquet(tmp_path / "even.parquet")
    even = write_problem(tmp_path, "even", "y", source={"path": "even.parquet"})
    model = saved(tmp_path / "model", even, max_iter=5)
    table = frame[["x"]]
    table.to_parquet(tmp_path / "t.parquet")
    run(model, tmp_path / "t.parquet", tmp_path / "s.parquet")
    scores = pd.read_parquet(tmp_path / "s.parquet")
    assert scores["prediction"].tolist() == model.predict(table).tolist()


def test_a_table_without_rows_gives_one_without_scores(place, model, tmp_path):
    pq.write_table(pq.read_table(FLIGHTS).slice(0, 0), tmp_path / "t.parquet")
    header = (place / "t.csv").read_bytes().partition(b"\n")[0] + b"\n"
    (tmp_path / "t.csv").write_bytes(header)
    for given in ("t.parquet", "t.csv"):
        for out in ("s.parquet", "s.csv"):
            done, _ = run(model, tmp_path / given, tmp_path / f"{given[2:]}.{out}")
            assert done.rows == 0
    assert pd.read_csv(tmp_path / "csv.s.csv").columns[-1] == "run_id"


# --- bad rows

GOOD = pq.read_table(FLIGHTS).slice(7, 1).to_pylist()[0]
BAD = [
    ("weekday", "", "weekday is missing"),
    ("carrier", "NA", "carrier 'NA' was not seen in training"),
    ("distance", "far", "distance 'far' is not a whole number"),
    ("distance", "3.5", "distance '3.5' is not a whole number"),
    ("distance", "9e99", "distance '9e99' is not a whole number"),
    ("distance", "true", "distance 'true' is not a whole number"),
    ("temp", "warm", "temp 'warm' is not a number"),
    ("temp", "1,5", "temp '1,5' is not a number"),
    ("temp", "inf", "temp 'inf' is not finite"),
    ("temp", "-Infinity", "temp '-Infinity' is not finite"),
    ("carrier", "ZZ", "carrier 'ZZ' was not seen in training"),
    ("weekday", "9", "weekday '9' was not seen in training"),
    ("tailnum", b"caf\xe9", "tailnum is not UTF-8"),
]
FINE = [("distance", "3.0"), ("distance", " 3 "), ("temp", "NaN"), ("temp", ""), ("temp", "1e1")]


def line(**changed):
    """A line of a CSV file: a good row with some values `changed`."""
    values = {name: "" if v is None else v for name, v in (GOOD | changed).items()}
    told = [v if isinstance(v, bytes) else str(v).encode() for v in values.values()]
    return b",".join(b'"' + v + b'"' if b"," in v else v for v in told) + b"\n"


def test_each_bad_row_of_a_csv_goes_to_the_side_with_its_reason(model, tmp_path):
    lines, reasons = [], {}
    for name, value, reason in BAD:
        lines.append(line(**{name: value}))
        reasons[len(lines)] = reason
        lines.append(line())
    lines += [line(**{name: value}) for name, value in FINE]
    lines += [
        b"\n",
        b"1,2,3\n",
        line()[:-1] + b",one,more\n",
        line(temp="x", distance=""),
        b"4,5\n",
    ]
    width, last = len(GOOD), len(lines) - 1
    reasons[last - 3] = f"3 fields, the header has {width}"
    reasons[last - 2] = f"{width + 2} fields, the header has {width}"
    reasons[last - 1] = "distance is missing; temp 'x' is not a number"
    reasons[last] = f"2 fields, the header has {width}"
    (tmp_path / "t.csv").write_bytes(",".join(GOOD).encode() + b"\n" + b"".join(lines))
    for size in (1, 4, 1000):
        done, told = run(model, tmp_path / "t.csv", tmp_path / "s.csv", batch_rows=size, force=True)
        side = pd.read_csv(tmp_path / "s.rejected.csv", keep_default_na=False, dtype=str)
        assert dict(zip(side["input row"].astype(int), side["rejected because"])) == reasons
        assert (done.rows, done.rejected) == (last, len(reasons))
        assert f"{len(reasons)} rejected: see {done.side}" in told[-1]
    assert side["input line"].tolist()[-1] == "4,5"
    values = side.set_index("input row")
    assert values.loc["5", "distance"] == "far" and values.loc["3", "carrier"] == "NA"


def test_each_bad_row_of_a_parquet_file_goes_to_the_side_with_its_reason(model, tmp_path):
    frame = pd.DataFrame([GOOD] * 8).astype({"distance": float})
    frame.loc[1, "distance"], frame.loc[2, "distance"] = 3.5, np.nan
    frame.loc[3, "temp"], frame.loc[4, "carrier"], frame.loc[5, "dest"] = np.inf, None, "ZZZ"
    frame.to_parquet(tmp_path / "t.parquet")
    done, _ = run(model, tmp_path / "t.parquet", tmp_path / "s.parquet", batch_rows=3)
    side = pd.read_parquet(done.side)
    assert dict(zip(side["input row"], side["rejected because"])) == {
        2: "distance 3.5 is not a whole number",
        3: "distance is missing",
        4: "temp inf is not finite",
        5: "carrier is missing",
        6: "dest 'ZZZ' was not seen in training",
    }
    assert done.scored == 3


def test_a_category_that_training_never_saw_is_scored_where_that_is_allowed(model, tmp_path):
    pd.DataFrame([GOOD | {"dest": "ZZZ"}]).to_parquet(tmp_path / "t.parquet")
    done, _ = run(model, tmp_path / "t.parquet", tmp_path / "s.parquet")
    assert done.rejected == 1 and pq.read_metadata(tmp_path / "s.parquet").num_rows == 0
    done, told = run(model, tmp_path / "t.parquet", tmp_path / "s.parquet", allow_unknown=True)
    assert done.scored == 1 and "now by another allow_unknown" in told[0]
    assert done.side is None and not list(tmp_path.glob("*rejected*"))


def test_a_column_of_true_false_and_gaps_is_read_as_it_was_learned(tmp_path):
    text = "flag,size,y\n" + "true,1,1\nfalse,2,0\n,3,1\n" * 30
    (tmp_path / "gaps.csv").write_text(text)
    described = write_problem(tmp_path, "gaps", "y", "regression")
    model = saved(tmp_path / "model", described, max_iter=5)
    done, _ = run(model, tmp_path / "gaps.csv", tmp_path / "s.csv")
    assert done.scored == 90
    (tmp_path / "typo.csv").write_text(text.replace("true", "maybe", 1))
    done, _ = run(model, tmp_path / "typo.csv", tmp_path / "typed.csv")
    assert (done.scored, done.rejected) == (89, 1)


def test_a_table_is_scored_by_the_marks_of_its_training_and_no_row_is_swallowed(tmp_path):
    rows = "".join(f"{n},5;{n % 28 + 1}.03.2013;{n % 3}\n" for n in range(90))
    (tmp_path / "t.csv").write_text("prediction;when;y\n" + rows)
    marks = {"path": "t.csv", "sep": ";", "decimal": ",", "date_format": "%d.%m.%Y"}
    described = write_problem(tmp_path, "t", "y", "regression", source=marks)
    model = saved(tmp_path / "model", described, max_iter=5)
    done, _ = run(model, tmp_path / "t.csv", tmp_path / "s.parquet")
    scored = pd.read_parquet(tmp_path / "s.parquet")
    frame = data.whole(problem.load(described))
    found = model.predict(frame)
    assert done.scored == 90 and np.allclose(scored["prediction (scored)"], found)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    run(model, tmp_path / "t.parquet", tmp_path / "p.parquet")
    assert np.allclose(pd.read_parquet(tmp_path / "p.parquet")["prediction (scored)"], found)
    (tmp_path / "u.csv").write_text("prediction;when;y\n" + rows.replace("7,5;", '"7,5;', 1))
    assert "line 9: a quote opens here" in refused(
        model, tmp_path / "u.csv", tmp_path / "u.parquet"
    )


# --- what is refused before anything is written


def test_tables_that_cannot_be_scored_are_refused(place, model, tmp_path):
    frame = pd.read_parquet(place / "t.parquet")[:5]
    out = tmp_path / "new" / "s.parquet"
    out.parent.mkdir()

    def told(change, name="t.parquet"):
        change(frame).to_parquet(tmp_path / name)
        return refused(model, tmp_path / name, out)

    said = told(lambda f: f.rename(columns={"distance": "distnace"}))
    assert "no column 'distance'" in said and "Did you mean 'distnace'?" in said
    assert "'prediction' has the name of one that scoring adds" in told(
        lambda f: f.assign(prediction=1)
    )
    said = told(lambda f: f.astype({"distance": str}))
    assert "'distance' is of type" in said and "asks for a whole number" in said
    assert "'carrier' is of type int64" in told(lambda f: f.assign(carrier=1))
    (tmp_path / "cut.parquet").write_bytes((place / "t.parquet").read_bytes()[:-9])
    assert "cut.parquet: it cannot be read" in refused(model, tmp_path / "cut.parquet", out)
    assert "is not there" in refused(model, tmp_path / "none.csv", out)
    (tmp_path / "parts.csv").mkdir()
    assert "score its files one by one" in refused(model, tmp_path / "parts.csv", out)
    (tmp_path / "e.csv").write_bytes(b"")
    assert "cannot be read" in refused(model, tmp_path / "e.csv", out)
    (tmp_path / "u.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    assert "not UTF-8" in refused(model, tmp_path / "u.csv", out)
    (tmp_path / "d.csv").write_bytes(b"a,a\n1,2\n")
    assert "'a' comes more than once" in refused(model, tmp_path / "d.csv", out)
    assert ".csv, .csv.gz or .parquet" in refused(model, tmp_path / "t.xlsx", out)
    assert ".csv, .csv.gz or .parquet" in refused(model, place / "t.csv", out.with_suffix(".txt"))
    assert "there is no folder" in refused(model, place / "t.csv", tmp_path / "no" / "s.csv")
    assert "less than one row" in refused(model, place / "t.csv", out, batch_rows=0)
    assert not list(out.parent.iterdir())


def test_files_that_are_none_are_refused_before_a_model_is_loaded(place, tmp_path):
    for table, out, said in (
        (tmp_path / "none.csv", tmp_path / "s.csv", "is not there"),
        (place / "t.csv", tmp_path / "s.txt", ".csv, .csv.gz or .parquet"),
        (place / "t.csv", place / "t.csv", "it is the table itself"),
    ):
        with pytest.raises(WorkbookError, match=said):
            job.check_files(table, out)


def test_nested_values_go_to_parquet_and_not_to_csv(place, model, tmp_path):
    table = pq.read_table(place / "t.parquet").slice(0, 3)
    table = table.append_column("tags", pa.array([["a"], [], None]))
    pq.write_table(table, tmp_path / "t.parquet")
    assert "name a .parquet file" in refused(model, tmp_path / "t.parquet", tmp_path / "s.csv")
    run(model, tmp_path / "t.parquet", tmp_path / "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet")["tags"][0].as_py() == ["a"]


def test_a_file_that_no_scoring_made_is_never_overwritten(place, model, tmp_path):
    given = shutil.copy(place / "t.csv", tmp_path / "t.csv")
    for name in ("s.csv", "s.rejected.csv"):
        (tmp_path / name).write_text("mine")
        for force in (False, True):
            said = refused(model, given, tmp_path / "s.csv", force=force)
            assert f"{name}: it is there, and not as a scoring wrote it" in said
        (tmp_path / name).unlink()
    (tmp_path / "s.csv.receipt.json").write_text("{}")
    assert "no receipt of a scoring" in refused(model, given, tmp_path / "s.csv")
    assert "it is the table itself" in refused(model, given, tmp_path / "t.csv")
    (tmp_path / "s.csv.receipt.json").unlink()
    run(model, given, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", "ab") as file:
        file.write(b"edited\n")
    assert "not as a scoring wrote it" in refused(model, given, tmp_path / "s.csv", force=True)


def test_a_folder_that_cannot_be_written_to_is_told(place, model):
    with pytest.raises(WorkbookError, match="it cannot be written"):
        run(model, place / "t.csv", Path("/proc/s.csv"))


# --- once more


def test_the_same_command_on_a_finished_output_does_nothing(place, model, tmp_path):
    run(model, place / "t.csv", tmp_path / "s.csv")
    before = files(tmp_path), (tmp_path / "s.csv").stat().st_mtime_ns
    copied = shutil.copy(place / "t.csv", tmp_path / "t.csv")  # the content counts, not the file
    done, told = run(model, copied, tmp_path / "s.csv", batch_rows=100)
    assert done.skipped and "already scored by flights version 3" in told[0]
    assert (files(tmp_path), (tmp_path / "s.csv").stat().st_mtime_ns) == before
    assert (done.rows, done.side) == (ROWS, tmp_path / "s.rejected.csv")
    done, _ = run(model, copied, tmp_path / "s.csv", force=True)
    assert not done.skipped
    assert (tmp_path / "s.csv").read_bytes() == before[0]["s.csv"]


def test_another_version_or_table_is_scored_anew_and_told(place, model, tmp_path):
    run(model, place / "t.csv", tmp_path / "s.csv")
    done, told = run(model, place / "t.csv", tmp_path / "s.csv", Version(number=4))
    assert not done.skipped and "now by another model_version" in told[0]
    assert set(pd.read_csv(tmp_path / "s.csv")["model_version"]) == {4}
    done, told = run(model, place / "t.parquet", tmp_path / "s.csv", Version(number=4))
    assert not done.skipped and "now by another table" in told[0]


# --- killed


def child(place, table, out, before=None, **options):
    """Score in this process, which was forked from a clean one; `before` is called once the model is there."""
    # tests that were started in the background ignore SIGINT, and have handed that on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = trust.load(place / "model")
    if before:
        before()
    log = out.parent / "log.txt"
    told = [log.open("a", encoding="utf-8")]
    try:
        run(model, table, out, say=lambda text: print(text, file=told[0], flush=True), **options)
    except KeyboardInterrupt:
        sys.exit(130)
    except WorkbookError as error:
        print(error.message, file=told[0], flush=True)
        sys.exit(1)


class KillAtReplace:
    """SIGKILL for this process right before or after file number `count` comes to its place."""

    def __init__(self, count, after):
        self.count, self.after, self.replace = count, after, os.replace

    def __call__(self):
        os.replace = self.killing

    def killing(self, source, target):
        """Stands for os.replace."""
        self.count -= 1
        if self.count == 0 and self.after:
            self.replace(source, target)
        if self.count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(source, target)


def forked(*arguments, **options):
    """A child under way."""
    process = FORKS.Process(target=child, args=arguments, kwargs=options)
    process.start()
    return process


def ended(process, seconds=120):
    """The exit code of a child."""
    process.join(seconds)
    return process.exitcode


MOMENTS = 1 + ROWS // 1000 + 3  # journal, parts; receipt, rejected rows, scores


@pytest.mark.parametrize(
    "name, after, moments",
    sampled(
        [("s.parquet", False, range(1, MOMENTS + 1)), ("s.csv", True, range(1, MOMENTS + 1))]
        + [("s.csv", False, (3, MOMENTS))],
        ("s.csv", False, (3, MOMENTS)),
    ),
)
def test_killed_as_any_file_comes_to_its_place_it_goes_on_to_the_same_output(
    place, model, tmp_path, name, after, moments
):  # pylint: disable=too-many-arguments,too-many-positional-arguments
    (tmp_path / "whole").mkdir()
    run(model, place / "t.parquet", tmp_path / "whole" / name, batch_rows=1000)
    for count in moments:
        out = tmp_path / f"{count}" / name
        out.parent.mkdir()
        before = KillAtReplace(count, after)
        assert (
            ended(forked(place, place / "t.parquet", out, before, batch_rows=1000))
            == -signal.SIGKILL
        )
        done, told = run(model, place / "t.parquet", out, batch_rows=1000)
        kept = min(count - (not after), MOMENTS - 3) - 1
        assert done.skipped == (count >= MOMENTS - 1 or (count, after) == (MOMENTS - 2, True))
        assert done.skipped or done.resumed == max(0, kept), told
        assert files(out.parent) == files(tmp_path / "whole")


@pytest.mark.soak
def test_killed_from_outside_again_and_again_it_goes_on_to_the_same_output(place, model, tmp_path):
    out, sizes = tmp_path / "s.csv", {"batch_rows": 25}
    (tmp_path / "whole").mkdir()
    run(model, place / "t.csv", tmp_path / "whole" / "s.csv", **sizes)
    parts, counts = tmp_path / ".s.csv.parts", []
    for more in (0, 3, 17, 30):
        process, wanted = forked(place, place / "t.csv", out, **sizes), sum(counts[-1:]) + more
        wait_for(lambda n=wanted: parts.is_dir() and len(list(parts.glob("*.arrow"))) >= n)
        process.kill()
        assert ended(process) == -signal.SIGKILL
        counts.append(len(list(parts.glob("*.arrow"))))
        assert not out.exists()
    done, told = run(model, place / "t.csv", out, **sizes)
    assert done.resumed == counts[-1] >= 50 and f"going on after {counts[-1]} finished" in told[0]
    (tmp_path / "log.txt").unlink()
    assert files(tmp_path) == files(tmp_path / "whole")


def left_behind(place, out, count=4, **options):
    """Let a scoring of the table be killed once `count` files are in their places."""
    before = KillAtReplace(count, True)
    process = forked(place, place / "t.parquet", out, before, **options)
    assert ended(process) == -signal.SIGKILL


def test_parts_of_another_version_size_or_table_are_not_used(place, model, tmp_path):
    for options in ({"version": Version(number=4)}, {"batch_rows": 400}, {"allow_unknown": True}):
        left_behind(place, tmp_path / "s.csv")
        done, told = run(model, place / "t.parquet", tmp_path / "s.csv", **options)
        assert not done.resumed and "starting anew" in told[0] and "of another" in told[0]
        for path in tmp_path.glob("s.*"):
            path.unlink()


def test_a_damaged_part_is_made_again(place, model, tmp_path):
    left_behind(place, tmp_path / "s.parquet", 6)
    for number, content in enumerate([b"", b"\0" * 100]):
        (tmp_path / ".s.parquet.parts" / f"{number:08}.arrow").write_bytes(content)
    run(model, place / "t.parquet", tmp_path / "s.parquet")
    (tmp_path / "log.txt").unlink()
    assert files(tmp_path) == files(place / "undisturbed")


def test_ctrl_c_keeps_the_parts_and_says_so_in_a_line(place, model, tmp_path):
    out, log = tmp_path / "s.csv", tmp_path / "log.txt"
    process = forked(place, place / "t.csv", out, batch_rows=40)
    wait_for(lambda: len(list(tmp_path.glob(".s.csv.parts/*.arrow"))) > 5)
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) == 130
    said = log.read_text("utf-8")
    assert "go on by the same command" in said and said.count("\n") == 1
    done, _ = run(model, place / "t.csv", out, batch_rows=40)
    assert done.resumed > 5


def test_two_commands_for_one_output_do_not_meet(place, model, tmp_path):
    process = forked(place, place / "t.csv", tmp_path / "s.csv", batch_rows=5)
    try:
        wait_for(lambda: list(tmp_path.glob(".s.csv.parts/*.arrow")))
        with pytest.raises(WorkbookError, match="another command is writing it"):
            run(model, place / "t.csv", tmp_path / "s.csv")
    finally:
        process.kill()
        process.join()


def small_files():
    """Let the disk be full, for this process, with 100 kB in one file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_command_that_is_scoring_anew_is_left_alone_by_one_that_finds_it_done(
    place, model, tmp_path
):
    out = tmp_path / "s.parquet"
    run(model, place / "t.parquet", out)
    folder = tmp_path / ".s.parquet.parts"
    folder.mkdir()
    (folder / "00000000.arrow").write_bytes(b"a part of the one with --force")
    with FileLock(folder / "lock"):
        assert "another command is writing it now" in refused(model, place / "t.parquet", out)
        assert (folder / "00000000.arrow").exists() and (folder / "lock").exists()
    done, said = run(model, place / "t.parquet", out)
    assert done.skipped and "already scored" in said[-1] and not folder.exists()


@pytest.mark.parametrize("name", sampled(["s.parquet", "s.csv", "s.csv.gz"], "s.csv"))
def test_a_full_disk_leaves_the_earlier_output_and_the_parts(place, model, tmp_path, name):
    out, log = tmp_path / name, tmp_path / "log.txt"
    run(model, place / "t.parquet", out, Version(number=2))
    before = files(tmp_path)
    process = forked(place, place / "t.parquet", out, small_files)
    assert ended(process) == 1
    said = log.read_text("utf-8").splitlines()
    assert f"{out}: it cannot be written: " in said[-1] and "Traceback" not in said
    assert {k: v for k, v in files(tmp_path).items() if k in before} == before
    done, _ = run(model, place / "t.parquet", out)
    assert done.scored and set(pd.read_csv(out).model_version if name != "s.parquet" else [3]) == {
        3
    }


def test_a_table_that_changes_meanwhile_is_told(place, model, tmp_path, monkeypatch):
    table = tmp_path / "t.parquet"
    shutil.copy(place / "t.parquet", table)
    write = output.Output.write

    def touched(*arguments):
        os.utime(table)
        write(*arguments)

    monkeypatch.setattr(output.Output, "write", touched)
    with pytest.raises(WorkbookError, match="it changed while it was scored"):
        run(model, table, tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()


# --- size


def measured(place, table, out):
    """Score in this process, and write the most bytes that Python and Arrow had for it, beside `out`."""
    tracemalloc.start()  # sees NumPy's arrays, too; the process's own size moves by 60 MB from run to run
    child(place, table, out, batch_rows=10_000)
    peak = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory()
    out.with_name("peak.txt").write_text(str(peak), "ascii")


@pytest.mark.parametrize("ending, count", sampled([("parquet", 100_000), ("csv", 50_000)]))
def test_memory_does_not_grow_with_the_table(place, tmp_path, ending, count):
    peaks = []
    for copies in (1, 4):
        folder = tmp_path / f"{copies}"
        folder.mkdir()
        rows = pa.concat_tables([pq.read_table(FLIGHTS).slice(0, count)] * copies)
        table = folder / f"t.{ending}"
        if ending == "csv":
            pa_csv.write_csv(rows, table)
        else:
            pq.write_table(rows, table, row_group_size=len(rows))
        process = FORKS.Process(target=measured, args=(place, table, folder / f"s.{ending}"))
        process.start()
        assert ended(process, 240) == 0
        peaks.append(int((folder / "peak.txt").read_text("ascii")))
    assert peaks[1] < 1.4 * peaks[0], peaks


# --- a cluster


class Dask:
    """A Dask scheduler and two workers: processes of this machine."""

    def __init__(self, folder):
        self.folder, self.address = folder, f"tcp://127.0.0.1:{free_port()}"
        self.scheduler = self._start("scheduler", "--port", self.address.rpartition(":")[2])
        self.workers = [self._start("worker", self.address, "--name", name) for name in "ab"]

    def _start(self, kind, *arguments):
        place = self.folder / f"{kind}{arguments[-1]}"
        place.mkdir()
        options = ["--host", "127.0.0.1", "--no-dashboard", *arguments]
        if kind == "worker":
            options += ["--nthreads", "1", "--local-directory", str(place)]
        return Process(place, "dask", kind, *options, PYTHONPATH=str(ROOT))

    def has_workers(self):
        """Whether both are there."""
        with contextlib.suppress(OSError), Client(self.address, timeout=5) as client:
            return len(client.nthreads()) == 2
        return False

    def close(self):
        """Kill all."""
        for process in [*self.workers, self.scheduler]:
            process.kill()


@pytest.mark.soak
def test_a_cluster_gives_the_same_scores_and_loses_none_whatever_is_killed(
    place, model, tmp_path, monkeypatch
):
    dask, done_parts, write = Dask(tmp_path), [], output.Output.write

    def killing(*arguments):
        write(*arguments)
        done_parts.append(arguments)
        if len(done_parts) == 3:
            if victims == [dask.scheduler]:
                monkeypatch.setattr(predictors, "PATIENCE", 3)
            victims.pop().kill()

    def score(folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        out, lines, table = tmp_path / folder / "s.parquet", [], place / "t.parquet"
        return run(model, table, out, cluster=dask.address, say=lines.append)[0]

    try:
        wait_for(dask.has_workers)
        score("calm")
        monkeypatch.setattr(output.Output, "write", killing)
        victims = [dask.workers[0]]
        score("worker")
        done_parts.clear()
        victims = [dask.scheduler]
        with pytest.raises(WorkbookError, match="scheduler .* is gone.*same command to go on"):
            score("scheduler")
    finally:
        dask.close()
    with pytest.raises(WorkbookError, match="does not answer"):
        score("scheduler")
    monkeypatch.undo()
    done, _ = run(model, place / "t.parquet", tmp_path / "scheduler" / "s.parquet")
    assert done.resumed >= 3
    for folder in ("calm", "worker", "scheduler"):
        assert files(tmp_path / folder) == files(place / "undisturbed")
