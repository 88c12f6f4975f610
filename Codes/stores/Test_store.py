"""The store whatever it is called: names in filters, and folders with unusual characters."""

import os
import shutil
import sqlite3
import subprocess
import sys

import mlflow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.model_registry import registry
from Codes.runs import tracking
from Codes.stores import store
from Codes.testing.cases import sampled

# what a file system takes as a name, quotes, brackets and line ends among it
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=40
)
NASTY = st.text(st.sampled_from("'\"`%?#[]{}()$;\\\n\t -=aAü😀"), min_size=1, max_size=12)
TAG = "notebook's own"


@pytest.fixture(name="client", scope="module")
def _client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.URI, f"sqlite:///{tmp_path_factory.mktemp('it is [a] #1 store')}/m.db")
        tracking.use_store()
        yield MlflowClient()
        mlflow.set_tracking_uri(None)


@pytest.fixture(name="experiment", scope="module")
def _experiment(client):
    return client.create_experiment("names")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=NAMES | NASTY)
@example(name="it's mine")
@example(name="""both ' and " quotes""")
@example(name="' or tags.`a` = 'b")
def test_a_run_is_found_by_any_name_and_no_other_is(client, experiment, name):
    run = client.create_run(experiment, tags={TAG: name})
    client.create_run(experiment, tags={TAG: name.swapcase() + "'"})
    found = list(store.all_runs(client, "attributes.status = 'RUNNING'", tags={TAG: name}))
    assert run.info.run_id in [each.info.run_id for each in found]
    assert {each.data.tags[TAG] for each in found} == {name}


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=NAMES | NASTY)
@example(name="..")
@example(name="ü" * 300)
def test_an_experiment_of_any_name_keeps_its_artifacts_below_the_store(client, name):
    place = tracking.ensure_experiment(name)
    assert tracking.ensure_experiment(name) == place
    run = client.create_run(place)
    client.log_text(run.info.run_id, "kept", "note.txt")
    root = store.sqlite_file(mlflow.get_tracking_uri()).parent / "mlruns"
    (found,) = root.glob(f"*/{run.info.run_id}/artifacts/note.txt")
    assert found.read_text() == "kept"


@pytest.mark.parametrize("name", ["it's", """a ' and a " b"""])
def test_versions_of_a_model_of_any_name_are_read(client, name):
    client.create_registered_model(name)
    client.create_model_version(name, "runs:/none/model")
    assert [str(version) for version in registry.versions(name)] == [f"{name} version 1"]


@pytest.mark.parametrize("name", ["x 100% y", "a%20b", "what?now"])
def test_a_folder_that_mlflow_takes_for_an_address_is_refused_and_nothing_is_made(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(WorkbookError, match="rename that folder"):
        store._check_characters(folder / "mlflow.db")  # pylint: disable=protected-access
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    environment = {"PATH": "/usr/bin:/bin"}
    seen = subprocess.run(
        ["make", "help"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert seen.returncode != 0 and "rename" in seen.stderr and seen.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([name, "Makefile"])


def test_a_store_of_ones_own_in_such_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(store.URI, f"sqlite:///{tmp_path}/100%/mlflow.db")
    with pytest.raises(WorkbookError, match="holds a '%'"):
        store.open_store()
    assert not list(tmp_path.iterdir())


def test_a_fresh_store_is_made_without_a_word(tmp_path):
    command = [
        sys.executable,
        "-c",
        "import mlflow\nfrom pathlib import Path\nfrom Codes.stores import store\n"
        f"store.ROOT = Path({str(tmp_path)!r})\nstore.open_store()",  # where none was made yet
    ]
    environment = os.environ | {store.URI: f"sqlite:///{tmp_path}/mlflow.db"}
    made = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (made.stdout, made.stderr) == ("", "") and (tmp_path / "mlflow.db").exists()


def test_a_store_that_was_deleted_leaves_nothing_in_the_one_made_in_its_place(
    tmp_path, monkeypatch
):
    file, kept = tmp_path / "mlflow.db", tmp_path / "kept"
    monkeypatch.setenv(store.URI, f"sqlite:///{file}")
    store.open_store()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE experiments SET name = 'of before'")
        connection.commit()
        shutil.copyfile(f"{file}-wal", kept)  # as one leaves it that was killed
    connection.close()
    file.unlink()
    shutil.copyfile(kept, f"{file}-wal")
    store.open_store()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("is_kept", sampled([True, False], True))
def test_each_new_store_has_its_own_place_and_time(is_kept, tmp_path, monkeypatch):
    monkeypatch.setattr(
        store, "ROOT", tmp_path / "checkout" if is_kept else tmp_path / "is no folder"
    )
    (tmp_path / "checkout").mkdir()
    origins = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(store.URI, f"sqlite:///{tmp_path}/{name}/mlflow.db")
        store.open_store()
        with sqlite3.connect(tmp_path / name / "mlflow.db") as connection:
            origins += connection.execute(
                "SELECT artifact_location, creation_time FROM experiments"
            ).fetchall()
        connection.close()
    assert [origin[0] for origin in origins] == [f"{tmp_path}/{n}/mlruns/0" for n in ("one", "two")]
    assert origins[0][1] < origins[1][1]
    assert len(list(tmp_path.glob("checkout/.cache/empty-store-*.db"))) == is_kept


@pytest.mark.parametrize("address", ["", "  "])
def test_an_address_of_nothing_is_none(address, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATABASE", tmp_path / "mlflow.db")
    monkeypatch.setenv(store.URI, address)
    assert store.open_store() == f"sqlite:///{store.DATABASE}"


@pytest.mark.parametrize("address", ["htp://x", "./mlruns", "file:///runs", "mlflow.db"])
def test_an_address_of_no_store_is_refused_in_a_line(address, monkeypatch):
    monkeypatch.setenv(store.URI, address)
    with pytest.raises(WorkbookError, match="is no store: it is sqlite:////path/mlflow.db"):
        store.open_store()
