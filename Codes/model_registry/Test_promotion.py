"""From a run to production and back: what is registered, what the gate lets through, and what a mistake costs."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import mlflow
import pytest
from mlflow import MlflowClient

from Codes.ground import manifest
from Codes.ground.errors import WorkbookError
from Codes.model_registry import demonstration, examination, promotion, registry
from Codes.modeling import evaluation, models
from Codes.problems import data, problem as problems
from Codes.runs import identity, liveness, tracking
from Codes.saved_models import reproduction
from Codes.serving import client as clients, server as serving
from Codes.testing.cases import sampled
from Codes.testing.testbed import FORKS, PATIENCE, asked_once, fresh_store, visible, wait_for

CANCER = problems.load("breast_cancer")
PRIVATE = CANCER.model_copy(update={"private": ["mean radius"]})


@pytest.fixture(name="store", scope="module")
def fixture_store(tmp_path_factory):
    """A store of this module's own, as the environment names it."""
    os.environ.setdefault("WORKBOOK_TESTBED", str(tmp_path_factory.mktemp("testbed")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path_factory.mktemp("store")))
        patch.setattr(problems, "load", lambda name: PRIVATE)
        patch.setattr(reproduction, "ask", asked_once(reproduction.ask))
        yield tracking.use_store()
    mlflow.set_tracking_uri(None)


@pytest.fixture(name="runs", scope="module")
def fixture_runs(store):  # pylint: disable=unused-argument
    """{model: id of a finished run of it}, as the runner leaves one."""
    good = {"max_depth": 3, "max_iter": 60}
    return {
        "dummy": train("dummy"),
        "weak": train("hgb", hyperparameters={"max_iter": 1}),
        "good": train("hgb", is_scored=True, hyperparameters=good),
    }


@pytest.fixture(name="versions", scope="module")
def fixture_versions(runs):
    """A function that makes versions 1, 2, 3 of a name: good, weak, dummy, as registered; a card takes seconds."""
    made = [promotion.register(runs[model], "models") for model in ("good", "weak", "dummy")]

    def copied(name):
        for each in made:
            registry.add(name, each.source, each.run_id, each.tags, "a card")

    return copied


def train(model, status="FINISHED", fingerprint="", **given):
    """The id of a run that trained `model` on breast cancer, with what the runner and 02_train keep of it."""
    tags = {"mlflow.source.git.commit": "c0ffee"}
    tags |= {promotion.FINGERPRINT: fingerprint} if fingerprint else {}
    run_id = demonstration.finished_run(CANCER.name, model, tags=tags, **given)
    if status != "FINISHED":
        MlflowClient().set_terminated(run_id, status)
    return run_id


def outcome(name):
    """What the last transition of the model `name` says."""
    return registry.settled(name)[-1].outcome


def test_a_version_tells_where_it_comes_from_and_what_it_is_good_for(runs):
    version = promotion.register(runs["good"], "told")
    kept = MlflowClient().get_model_version("told", "1")
    assert version.number == 1 and kept.run_id == runs["good"]
    assert version.private == ["mean radius"], "what its problem's file marks so"
    assert list(kept.tags) == [registry.FACTS], "the UI shows each tag"
    told = version.tags
    assert told["mlflow.workbook.git.commit"] == "c0ffee"
    assert "breast_cancer" in told["mlflow.workbook.dataset"]
    assert "scikit-learn==" in told["mlflow.workbook.environment"]
    assert "mean radius: double" in told["mlflow.workbook.signature"]
    for part in (
        CANCER.title,
        "roc_auc",
        "## Where it is weak",
        "## Limits",
        runs["good"],
        "digest",
        "by cross-validation of ",
        "better than the baseline (always the shares of the classes: 0.5000) by",
        "It was not examined yet.",
    ):
        assert part in kept.description
    assert promotion.register(runs["good"], "told").number == 1, "once a run, however often"
    mlflow.pyfunc.load_model("models:/told/1")  # which leaves a note beside the model
    assert registry.load(version).schema.input_names()[0] == "mean radius"


def test_pages_begin_with_words_and_show_no_tags_but_the_stage(runs):
    client = MlflowClient()
    promotion.register(runs["good"], "shown")
    assert "staging: nothing" in client.get_registered_model("shown").description
    promotion.promote("shown", "staging")
    promotion.promote("shown", "production", override="a test of the page")
    there = client.get_registered_model("shown")
    assert there.description.startswith(f"**{CANCER.title}**") and not visible(there.tags)
    assert "- production: [version 1](#/models/shown/versions/1?" in there.description
    assert visible(client.get_model_version("shown", "1").tags) == {"stage"}
    kept = client.get_run(registry.settled("shown")[-1].gate)
    assert re.fullmatch("gate: (passed|refused) shown/1", kept.info.run_name)
    assert not visible(kept.data.tags) and liveness.HEARTBEAT not in kept.data.tags
    note = kept.data.tags[liveness.NOTE]
    assert "checks passed" in note and max(map(len, note.splitlines())) < 300 and "# " not in note


def test_a_text_of_somebodys_own_stays_on_a_models_page(runs):
    client = MlflowClient()
    promotion.register(runs["good"], "described")
    client.update_registered_model("described", "my own words")
    promotion.promote("described", "staging")
    assert client.get_registered_model("described").description == "my own words"


def test_problems_whose_files_are_called_alike_share_no_model(store, runs):
    del store
    version = promotion.register(runs["good"])
    MlflowClient().set_model_version_tag(
        version.name, str(version.number), registry.PROBLEM, f"/elsewhere/{version.name}.yaml"
    )
    with pytest.raises(WorkbookError, match="is of the problem /elsewhere/.*not of .*--name") as no:
        promotion.register(runs["weak"])
    assert "\n" not in no.value.message
    assert promotion.register(runs["weak"], version.name).number == 2


def test_a_problem_without_a_model_is_told_how_to_have_one(store):
    assert store
    with pytest.raises(WorkbookError, match="made by: workbook register --problem diabetes$"):
        registry.model("diabetes")


def test_what_is_no_finished_whole_run_of_this_workbook_is_not_registered(store, runs):
    client = MlflowClient()
    foreign = client.create_run(client.create_experiment("foreign")).info.run_id
    failed = train("dummy", status="FAILED")
    bare = client.create_run("0", tags={identity.NOTEBOOK: "01_explore"}).info.run_id
    client.set_terminated(bare)
    for run_id, said in {
        "nothing": "there is no run 'nothing'",
        "diabetes": "register --problem diabetes",
        foreign: "none of this workbook's",
        failed: "is FAILED",
        bare: "saved no model",
    }.items():
        with pytest.raises(WorkbookError, match=said):
            promotion.register(run_id, "refused")
    for name in ("a/b", "a:b", "a\nb", "x" * 300, "", "<b>", "a.lock"):
        with pytest.raises(WorkbookError, match="cannot be a model's name"):
            registry.check_name(name)
    with pytest.raises(WorkbookError, match="cannot be a model's name"):
        promotion.register(runs["good"], "a/b")
    assert "refused" not in registry.names() and store


def test_of_several_models_of_a_run_the_newest_is_registered(
    store,
):  # pylint: disable=unused-argument
    run_id = train("hgb", hyperparameters={"max_iter": 1})
    frame = data.load(CANCER)
    X, y = data.features(frame, CANCER), data.target(frame, CANCER)
    for _ in range(2):
        with mlflow.start_run(run_id):
            newest = models.log(models.build(CANCER, X, "dummy").fit(X, y), X).model_id
    client = MlflowClient()
    manifest.write(client, client.get_run(run_id))
    assert promotion.source(run_id)[1] == newest


def test_a_model_of_unknown_rows_is_not_registered(store):  # pylint: disable=unused-argument
    client = MlflowClient()
    run = client.create_run(tracking.ensure_experiment(CANCER.name))
    with pytest.raises(WorkbookError, match="did not log the rows that its model was trained on"):
        examination.trained_on(run)


def test_a_run_with_an_altered_or_missing_artifact_is_not_registered_nor_promoted_nor_loaded():
    run_id = train("dummy")
    version = promotion.register(run_id, "altered")
    folder = registry.files(version)
    for file in (folder / "model.skops", folder / "MLmodel"):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(WorkbookError, match=f"{file.name}: altered"):
            promotion.register(run_id, "again")
        with pytest.raises(WorkbookError, match="not those that were registered"):
            promotion.promote("altered", "staging")
        file.write_bytes(content)
    promotion.promote("altered", "staging")
    unfinished = train("dummy")
    client = MlflowClient()
    manifest_file = (
        manifest.local_folders(client, client.get_run(unfinished))["run"] / manifest.NAME
    )
    manifest_file.unlink()  # killed while its artifacts were copied
    with pytest.raises(WorkbookError, match="manifest.json: missing"):
        promotion.register(unfinished, "again")


def test_the_gate_stands_before_production_and_a_refusal_names_both_numbers(runs):
    good, weak, dummy = (promotion.register(runs[n], "gated") for n in ("good", "weak", "dummy"))
    assert (good.number, weak.number, dummy.number) == (1, 2, 3)
    _, report = promotion.promote("gated", "production", weak.number, why="the first")
    assert report.passed and registry.pointed("gated", "production") == 2
    with pytest.raises(
        promotion.Refused, match=r"better than the one in production: roc_auc 0.5\d* against 0.9"
    ):
        promotion.promote("gated", "production", dummy.number)
    assert registry.pointed("gated", "production") == 2 and outcome("gated").startswith("refused:")
    _, report = promotion.promote("gated", "production", good.number, override="in vain")
    assert registry.settled("gated")[-1].override == "", "there was nothing to override"
    assert report.passed and report.metrics.low.dropna().iloc[0] > 0
    stages = {v.number: v.tags.get(registry.STAGE) for v in registry.versions("gated")}
    assert stages == {1: "production", 2: "archived", 3: None}
    with pytest.raises(WorkbookError, match="is in production already"):
        promotion.promote("gated", "production", good.number)
    # the same model again is no better, but for luck
    twin = promotion.register(
        train("hgb", hyperparameters={"max_depth": 3, "max_iter": 60}), "gated"
    )
    with pytest.raises(
        promotion.Refused, match="the same answers on all 1[0-9]+ rows as version 1"
    ):
        promotion.promote("gated", "production", twin.number)
    _, report = promotion.promote("gated", "production", dummy.number, override="we must")
    assert not report.passed and registry.pointed("gated", "production") == 3
    assert registry.settled("gated")[-1].override == "we must"
    assert promotion.rollback("gated", why="a mistake") == (3, 1)
    assert promotion.rollback("gated") == (1, 2), "and once more: what was there before that"
    with pytest.raises(WorkbookError, match="before version 2 nothing was in production"):
        promotion.rollback("gated")
    assert promotion.rollback("gated", 1) == (2, 1)
    kept = registry.settled("gated")[0]
    assert (kept.why, kept.before, kept.after, kept.outcome) == ("the first", None, 2, "done")
    assert "# Gate: passed" in mlflow.artifacts.load_text(f"runs:/{kept.gate}/gate.md")
    run = MlflowClient().get_run(kept.gate)
    assert run.info.status == "FINISHED" and run.data.tags[examination.GATE] == "gated/2"
    table, moves = promotion.story("gated")
    assert table.set_index("version").gate[3] == "refused" and len(moves) == 8


def test_without_a_number_the_newest_is_taken_that_no_gate_refused_and_nobody_took_back(runs):
    good, dummy = (promotion.register(runs[n], "unnamed") for n in ("good", "dummy"))
    assert promotion.where_it_stands("unnamed")[0].endswith(
        "no version was promoted. `workbook promote unnamed production` does it."
    )
    with pytest.raises(promotion.Refused, match="it answers every row alike"):
        promotion.promote("unnamed", "production", dummy.number)
    assert (
        "version 2 was refused: better than the baseline" in promotion.where_it_stands("unnamed")[0]
    )
    version, why = promotion.candidate("unnamed", "staging")
    assert version.number == good.number and why.endswith("(version 2 was refused by the gate)")
    assert promotion.next_step(good).endswith("promote unnamed staging --version 1")
    assert "has refused it" in promotion.next_step(registry.find("unnamed/2"))
    MlflowClient().copy_model_version("models:/unnamed/2", "copied")
    assert promotion.candidate("copied", "staging")[0].number == 1, "the tags are another's"
    assert "has refused" not in promotion.next_step(registry.find("copied/1"))
    promotion.promote("unnamed", "staging")
    assert promotion.next_step(good).endswith("promote unnamed production --version 1")
    registry.move("unnamed", "production", good.number, None)
    registry.move("unnamed", "production", dummy.number, good.number)
    assert promotion.rollback("unnamed") == (2, 1)
    registry.move("unnamed", "production", dummy.number, good.number)
    promotion.rollback("unnamed")
    weak = promotion.register(runs["weak"], "unnamed")
    assert promotion.candidate("unnamed", "staging")[0].number == weak.number
    registry.move("unnamed", "production", weak.number, good.number)
    promotion.rollback("unnamed", why="it was a mistake")
    version, why = promotion.candidate("unnamed", "staging")
    assert version.number == good.number and "version 3 was taken back from production" in why


def test_where_every_version_was_refused_one_has_to_be_named(runs):
    dummy = promotion.register(runs["dummy"], "refused-all")
    with pytest.raises(promotion.Refused):
        promotion.promote("refused-all", "production", dummy.number)
    with pytest.raises(WorkbookError, match="no version to take by itself: version 1 was refused"):
        promotion.promote("refused-all", "staging")
    text = registry.card(registry.find("refused-all/1"))
    assert "Refused against the baseline" in text and "looked at" in text
    assert "It was not examined yet" not in text and "## Data" in text


def test_a_version_that_was_refused_costs_no_second_look_when_04_runs_again(runs):
    dummy = promotion.register(runs["dummy"], "once-refused")
    first, told = promotion.attempt(dummy, "production")
    tried = registry.settled("once-refused")
    again, told_again = promotion.attempt(registry.find("once-refused/1"), "production")
    assert "is not promoted" in told and "was refused by the gate before" in told_again
    assert again.refusal == first.refusal and first.refusal in told_again
    assert registry.settled("once-refused") == tried, "the gate was not asked"


def test_each_look_at_the_test_rows_is_counted(runs):
    promotion.register(runs["weak"], "looked")
    with pytest.raises(promotion.Refused) as first:
        promotion.promote(
            "looked", "production", promotion.register(runs["dummy"], "looked").number
        )
    _, second = promotion.promote("looked", "production", 1)
    counts = [
        int(re.search(r"looked at (\d+) time", r.notes[0])[1]) for r in (first.value.report, second)
    ]
    assert counts[1] == counts[0] + 1
    version, client = registry.find("looked/1"), MlflowClient()
    with ThreadPoolExecutor() as pool:
        both = [*pool.map(lambda _: examination.opened(client, version, "rows"), range(2))]
    assert {looks for _, looks in both} == {1, 2}, "of two at once each has a number of its own"
    for run_id, _ in both:
        client.set_terminated(run_id)


def test_a_run_that_repeats_the_one_of_a_version_makes_no_new_version():
    first, again, other = (train("dummy", fingerprint=f) for f in ("f1", "f1", "f2"))
    version = promotion.register(first, "repeated")
    assert promotion.register(again, "repeated").run_id == version.run_id == first
    assert promotion.register(other, "repeated").number == 2
    by_chance = train(
        "linear", fingerprint="f1"
    )  # what the clock or an unseeded number has changed
    assert promotion.register(by_chance, "repeated").number == 3


@pytest.mark.soak
def test_staging_needs_no_gate_and_what_is_there_is_the_next_for_production(runs):
    weak, good = (promotion.register(runs[n], "staged") for n in ("weak", "good"))
    assert promotion.promote("staged", "staging", weak.number)[1] is None
    version, _ = promotion.promote("staged", "production")
    assert version.number == weak.number, "not the newest: the one that was tried in staging"
    version, _ = promotion.promote("staged", "staging")
    assert version.number == good.number
    assert promotion.candidate("staged", "production")[1] == "it is in staging"
    for alias in ("latest", "v1", "1", "Production"):
        with pytest.raises(WorkbookError, match="there are staging and production"):
            promotion.promote("staged", alias)
    with pytest.raises(WorkbookError, match="no version 9; there are 1, 2"):
        promotion.promote("staged", "staging", 9)
    with pytest.raises(WorkbookError, match="did you mean 'staged'|Did you mean 'staged'"):
        promotion.promote("stagd", "staging")
    for spec in ("staged", "staged/x", "staged@", "@production", "a/b/c"):
        with pytest.raises(WorkbookError, match="names no version"):
            registry.find(spec)
    assert registry.find("staged@staging").number == registry.find("staged/2").number == 2


# --- several at once, and killed in the middle


def be_in(uri):
    """Use the store at `uri` in a process that was forked from one that knows nothing of it."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    tracking.use_store()


def try_to_move(uri, name, after, before, barrier, results):  # pylint: disable=R0913,R0917
    """Be somebody who moves production at the same moment as others."""
    be_in(uri)
    barrier.wait(PATIENCE)
    try:
        registry.move(name, "production", after, before)
        results.put((after, "won"))
    except WorkbookError as error:
        results.put((after, error.message))


def race(uri, name, before, others):
    """The one of `others` to which production of the model `name` points, after processes moved it there at once."""
    barrier, results = FORKS.Barrier(len(others)), FORKS.Queue()
    processes = [
        FORKS.Process(target=try_to_move, args=(uri, name, after, before, barrier, results))
        for after in others
    ]
    for process in processes:
        process.start()
    told = dict(results.get(timeout=PATIENCE) for _ in processes)
    for process in processes:
        process.join()
    won = [after for after, what in told.items() if what == "won"]
    lost = next(what for what in told.values() if what != "won")
    assert len(won) == 1 and f"moved to version {won[0]}" in lost
    assert registry.pointed(name, "production") == won[0]
    return won[0]


def test_of_several_promotions_at_once_one_wins_and_the_others_are_told(store, versions):
    versions("raced")
    registry.move("raced", "production", 1, None)
    before = 1
    for _ in range(2):
        before = race(store, "raced", before, [n for n in (1, 2, 3) if n != before])
    outcomes = [t.outcome.partition(":")[0] for t in registry.settled("raced")]
    assert sorted(outcomes) == ["done"] * 3 + ["refused"] * 2
    assert "raced.lock" not in registry.names()


def move_and_stop(uri, name, after, before, stop_at):
    """Begin to move production, and be killed where `stop_at` says."""
    be_in(uri)
    step = getattr(MlflowClient, stop_at)

    def die(*args, **kwargs):
        if stop_at == "set_model_version_tag":
            os.kill(os.getpid(), signal.SIGKILL)
        step(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(MlflowClient, stop_at, die)
    registry.move(name, "production", after, before)


@pytest.mark.parametrize(
    ("stop_at", "moved"),
    sampled(
        [
            ("create_registered_model", False),  # it holds the lock
            ("set_registered_model_tag", False),  # the intention is recorded
            ("set_registered_model_alias", True),
            ("set_model_version_tag", True),
        ],
        "set_registered_model_alias",
    ),
)
def test_a_killed_promotion_leaves_a_sound_registry_and_the_next_one_converges(
    store, versions, stop_at, moved
):
    name = f"killed-{stop_at}"
    versions(name)
    registry.move(name, "production", 1, None)
    process = FORKS.Process(target=move_and_stop, args=(store, name, 2, 1, stop_at))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    there = 2 if moved else 1
    assert registry.pointed(name, "production") == there
    started = time.monotonic()
    registry.move(name, "production", 3, there)
    assert time.monotonic() - started < registry.PATIENCE, "a dead one's lock is not waited for"
    assert registry.pointed(name, "production") == 3
    outcomes = [t.outcome for t in registry.settled(name)]
    assert "begun" not in outcomes and outcomes[-1] == "done"
    assert (outcomes.count("done") == 3) is moved
    assert name + ".lock" not in [m.name for m in MlflowClient().search_registered_models()]
    assert registry.stack(name) == ([1, 2, 3] if moved else [1, 3])


def test_a_killed_registration_is_completed_by_the_next(runs):
    client = MlflowClient()
    client.create_registered_model("half")  # killed right after the first step
    assert promotion.register(runs["good"], "half").number == 1
    # a version that somebody made by hand has no digest: it is not used
    model_id = client.get_run(runs["weak"]).outputs.model_outputs[-1].model_id
    client.create_model_version("half", f"models:/{model_id}", runs["weak"], model_id=model_id)
    with pytest.raises(
        WorkbookError, match="was not registered by this workbook.*workbook register"
    ):
        promotion.promote("half", "staging", 2)
    assert promotion.register(runs["weak"], "half").number == 3


@pytest.mark.soak
def test_a_model_in_production_that_is_damaged_does_not_stay_there_for_ever(runs):
    for model in ("weak", "good"):
        promotion.register(runs[model], "damaged")
    registry.move("damaged", "production", 1, None)
    file = registry.files(registry.find("damaged/1")) / "model.skops"
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + b"?")
        with pytest.raises(promotion.Refused, match="cannot be compared: version 1: .*registered"):
            promotion.promote("damaged", "production", 2)
        promotion.promote("damaged", "production", 2, override="1 is damaged")
    finally:
        file.write_bytes(content)
    assert registry.pointed("damaged", "production") == 2


def test_only_what_was_in_production_is_rolled_back_to(versions):
    versions("back")
    registry.move("back", "production", 1, None)
    registry.move("back", "production", 2, 1)
    with pytest.raises(WorkbookError, match="version 3 was never in production; .*--version 3"):
        promotion.rollback("back", 3)
    MlflowClient().set_registered_model_alias("back", "production", "3")  # by hand, in the UI
    assert promotion.rollback("back") == (3, 2)
    assert promotion.rollback("back") == (2, 1)


def test_what_others_do_to_the_registry_is_seen_told_and_judged_by_the_files(
    versions, capsys, caplog
):
    versions("others")
    promotion.promote("others", "production", 2)
    client = MlflowClient()
    client.copy_model_version("models:/others/2", "others")  # with its tags
    table = promotion.story("others")[0].set_index("version")
    assert (table.gate[2], table.stage[2]) == ("passed", "production")
    assert (table.gate[4], table.stage[4]) == ("", "")
    original, copy = registry.find("others/2"), registry.find("others/4")
    assert registry.STAGE not in copy.tags
    assert registry.load(copy).digest == registry.load(original).digest
    client.set_registered_model_alias("others", "production", "1")
    serving.tell_outside("others@production", registry.find("others/1"))
    told = "others: production was moved from version 2 to version 1 outside the workbook"
    assert f"{told}, past the gate" in caplog.text
    seen = registry.settled("others")[-1]
    assert (seen.who, seen.before, seen.after) == (registry.OUTSIDE, 2, 1)
    assert told in capsys.readouterr().err and len(registry.settled("others")) == 2
    registry.move("others", "production", 3, 1)
    assert promotion.rollback("others") == (3, 1), "what others had put there is not skipped"
    client.delete_registered_model_alias("others", "production")
    with pytest.raises(WorkbookError, match="nothing in production.*put back .*: --to 1"):
        promotion.rollback("others")
    assert promotion.rollback("others", 2) == (None, 2)
    registry.move("others", "production", 3, 2)
    client.delete_model_version("others", "2")
    with pytest.raises(WorkbookError, match="before version 3 nothing"):
        promotion.rollback("others")


def test_transitions_are_in_their_order_whatever_the_clocks_and_time_zones(versions, monkeypatch):
    versions("zones")
    moves = [("Asia/Tokyo", 1, None), ("America/New_York", 2, 1), ("Europe/Berlin", 3, 2)]
    for zone, after, before in moves:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        registry.move("zones", "production", after, before)
    real = registry.datetime

    class Late(real):
        """A clock that is an hour behind."""

        @classmethod
        def now(cls, tz=None):
            return real.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(registry, "datetime", Late)
    registry.move("zones", "production", 1, 3)
    monkeypatch.undo()
    time.tzset()
    assert registry.stack("zones") == [1, 2, 3, 1]


def test_a_lock_that_was_taken_away_from_a_stopped_process_is_noticed(runs):
    promotion.register(runs["good"], "stopped")
    client = MlflowClient()
    with pytest.raises(WorkbookError, match="is being changed by another command"):
        with registry.locked("stopped") as still_mine:
            still_mine()
            client.delete_registered_model("stopped.lock")
            client.create_registered_model("stopped.lock", tags={registry.LOCK: "another's"})
            still_mine()
    assert client.get_registered_model("stopped.lock").tags[registry.LOCK] == "another's"
    client.delete_registered_model("stopped.lock")


def test_a_nan_in_a_metric_fails_the_gate_closed(runs, monkeypatch):
    version = promotion.register(runs["good"], "nan")
    gate = problems.Gate(thresholds={"roc_auc": 0.5})
    strict = CANCER.model_copy(update={"gate": gate})
    monkeypatch.setattr(problems, "load", lambda name: strict)
    real = evaluation.measure
    monkeypatch.setattr(
        evaluation, "measure", lambda *a, **k: dict.fromkeys(real(*a, **k), float("nan"))
    )
    with pytest.raises(
        promotion.Refused, match="threshold of roc_auc: not known, allowed: at least 0.5"
    ):
        promotion.promote("nan", "production", version.number)
    assert registry.pointed("nan", "production") is None
    assert outcome("nan").startswith("refused: threshold of roc_auc: not known")


# --- what is served


@pytest.mark.soak
def test_a_promotion_and_a_rollback_are_live_in_seconds_and_an_altered_model_is_not(versions):
    versions("live")
    registry.move("live", "production", 1, None)
    rows = registry.load(registry.find("live/1")).example

    def version():
        return clients.ask(server.url, rows)["version"]

    with clients.Server("live@production", "--capture", "0") as server:
        assert version() == "1"
        registry.move("live", "production", 2, 1)
        wait_for(lambda: version() == "2")
        promotion.rollback("live")
        wait_for(lambda: version() == "1")
        file = registry.files(registry.find("live/3")) / "model.skops"
        content = file.read_bytes()
        try:
            file.write_bytes(content[:-1] + b"?")
            registry.move("live", "production", 3, 1)
            wait_for(lambda: "keeps serving" in server.log.read_text("utf-8"))
            assert version() == "1"
            with pytest.raises(WorkbookError, match="not those that were registered"):
                clients.Server("live/3")
            file.write_bytes(content)
            promotion.rollback("live")
        finally:
            file.write_bytes(content)
    for spec, said in {"live@staging": "nothing in staging", "live/9": "no version 9"}.items():
        with pytest.raises(WorkbookError, match=said):
            clients.Server(spec)
