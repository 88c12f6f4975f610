"""A table is read alike whichever way it comes in: training, a file to score, a request in JSON or CSV."""

import datetime
import json
import os

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from click.testing import CliRunner
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from Codes.commands import cli
from Codes.ground.errors import WorkbookError
from Codes.model_registry import demonstration, promotion, registry
from Codes.problems import data, problem as problems
from Codes.runs import tracking
from Codes.serving import client as clients
from Codes.tables import contract
from Codes.testing.testbed import fresh_store, write_problem

TIME, DAY = pd.Timestamp("2013-01-01 12:00"), pd.Timedelta(days=1)
CONTRACT = {
    "a": {"type": "integer", "min": 0, "max": 500},
    "flag": {"type": "boolean", "missing_share": 1},
    "town": {"type": "text", "allowed": ["A", "NA"]},
    "stays": {"type": "text"},
}


def rows(count=120):
    """Rows as a CSV file has them: truth values with gaps, numbers with gaps, text."""
    text = ["id,a,flag,size,town,stays"]
    flags, sizes, towns = ("true", "false", ""), ("1.5", "NA", "2", "none given"), ("A", "NA")
    for n in range(count):
        stays = "yes" if n % 3 == 0 or n % 7 == 0 else "no"
        text.append(f"x{n},{n},{flags[n % 3]},{sizes[n % 4]},{towns[n % 2]},{stays}")
    return "\n".join(text) + "\n"


@pytest.fixture(scope="module", name="place")
def fixture_place(tmp_path_factory):
    """A folder with a problem's file, its table and a store, in which version 1 of the model `t` is registered."""
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    folder = tmp_path_factory.mktemp("ways")
    source, left_out = {"path": "t.csv", "na_values": ["none given"]}, {"id": "identity"}
    write_problem(folder, "t", "stays", source=source, exclude=left_out, contract=CONTRACT)
    (folder / "t.csv").write_text(rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        tracking.use_store()
        given = {"is_scored": True, "hyperparameters": {"max_iter": 5}}
        run_id = demonstration.finished_run(str(folder / "t.yaml"), "hgb", **given)
        promotion.register(run_id, "t")
        yield folder
    mlflow.set_tracking_uri(None)


def command(*words):
    """(exit status, what it says) of `workbook WORDS…`."""
    done = CliRunner().invoke(cli.main, list(map(str, words)))
    return done.exit_code, done.output


def test_score_ends_with_3_where_rows_were_rejected(place):
    out, typo = place / "s.csv", place / "typo.csv"
    typo.write_text(rows().replace(",true", ",maybe", 1))
    for _ in range(2):  # scored, and nothing to do
        status, told = command("score", "t/1", typo, out, "--no-progress")
        assert status == 3 and f"1 rejected: see {place}/s.rejected.csv" in told, told
    assert pd.read_csv(place / "s.rejected.csv")["rejected because"].tolist() == [
        "flag 'maybe' is not true or false"
    ]
    assert command("score", "t/1", place / "t.csv", place / "all.csv")[0] == 0
    strict = place / "strict.csv"
    strict.write_text(rows(9).replace("x3,3,", "x3,501,"))
    status, told = command("score", "t/1", strict, place / "c.csv", "--contract")
    assert status == 3 and "8 of 9 rows scored" in told, told
    assert pd.read_csv(place / "c.rejected.csv")["rejected because"].tolist() == [
        "a '501' breaks the contract, which asks for integer, from 0, to 500"
    ]
    status, told = command("score", "t/1", strict, place / "c.csv")
    assert status == 0 and "now by another contract: scoring it again" in told, told
    assert command("score", "t/1", place / "none.csv", place / "n.csv")[0] == 1


def asked(url, body, kind="text/csv"):
    """(status, the answer) of a request with that `body`."""
    reply = requests.post(f"{url}/invocations", body, headers={"Content-Type": kind}, timeout=60)
    return reply.status_code, reply.json().get("predictions") or reply.json()["message"]


def test_a_served_model_reads_as_training_did_and_keeps_the_contract(place):
    frame = data.whole(problems.load(place / "t.yaml"))
    loaded = registry.load(registry.find("t/1"))
    expected = loaded.predict(frame).tolist()
    features = frame[loaded.schema.input_names()]
    with clients.Server("t/1", "--capture", "0", "--contract", str(place / "t.yaml")) as server:
        # with the target and the excluded, which the model does not take, as score reads it
        assert asked(server.url, rows()) == (200, expected)
        client = ScoringServerClient("127.0.0.1", int(server.url.rpartition(":")[2]))
        assert features["flag"].isna().any(), "NaN in its request"
        assert client.invoke(features).get_predictions()[0].tolist() == expected
        flags = [None if pd.isna(v) else bool(v) for v in features["flag"]]
        records = features.astype(object).where(features.notna(), None).assign(flag=flags)
        text = json.dumps({"dataframe_records": records.to_dict("records")})
        assert '"flag": true' in text and '"flag": null' in text
        assert asked(server.url, text, "application/json") == (200, expected)
        status, why = asked(server.url, rows(9).replace("x3,3,", "x3,501,"))
        assert status == 400 and why.startswith(
            "row 3, column 'a': 501 breaks the contract of t"
        ), why
        status, why = asked(server.url, rows(9).replace("stays", "stay"))
        assert status == 400 and 'column "stay" is not one of the model\'s' in why


@pytest.mark.parametrize(
    "rule, given, broken",
    [
        ({"type": "number", "min": 1, "max": 2}, [0.5, 1.0, None, 2.5], [0, 3]),
        ({"type": "integer"}, [1.0, 1.5, None], [1]),
        ({"type": "boolean"}, [True, False, None], []),
        ({"type": "boolean"}, [1.0, 0.0, None, 2.0], [3]),
        ({"type": "boolean", "allowed": [True]}, [1.0, 0.0, None], [1]),
        ({"type": "text", "allowed": ["A"]}, ["A", "B", None], [1]),
        ({"type": "time", "min": datetime.date(2013, 1, 2)}, [TIME, None, TIME + DAY], [0]),
    ],
)
def test_a_rule_is_held_against_each_value_and_a_gap_breaks_none(rule, given, broken):
    found = contract.breaches(pd.Series(given), problems.Rule(**rule))
    assert np.flatnonzero(found).tolist() == broken


def test_a_contract_that_cannot_be_held_is_refused(place):
    problem = problems.load(place / "t.yaml")
    with pytest.raises(WorkbookError, match="flag: asks for the type boolean.*takes string"):
        contract.rules_for(problem, {"flag": "string"})
    with pytest.raises(WorkbookError, match="names no column that the model takes"):
        contract.rules_for(problem, {"size": "double"})
