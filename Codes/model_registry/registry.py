"""The registry: the versions of a model, which of them `staging` and `production` point to, and how that came about.

MLflow's stages are deprecated; its aliases are what lasts, and a tag keeps the words that people know from stages.
"""

import contextlib
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from Codes.ground import paths
from Codes.ground.errors import WorkbookError, first_line, nearest
from Codes.model_registry.stages import ALIASES, check_alias
from Codes.problems import problem as problems
from Codes.runs import identity, liveness, ui_links, tracking
from Codes.stores.store import quoted

if TYPE_CHECKING:
    from Codes.saved_models.trust import Loaded

STAGE = "stage"  # a version's tag: staging, production or archived
FACTS = "mlflow.workbook.version"  # the tag of a version that holds, as JSON, what was known when it was registered
DIGEST, TRUSTED, PROBLEM = (
    "mlflow.workbook.digest",
    "mlflow.workbook.trusted",
    "mlflow.workbook.problem",
)
PRIVATE = "mlflow.workbook.private"
TRANSITION = "mlflow.workbook.transition."  # + a time and a random ending; on the registered model
LOCK = "mlflow.workbook.lock"  # marks the registered model that is a lock for a moment
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PATIENCE = 30.0  # seconds to wait for another's change of an alias, which takes less than one
BEGUN, DONE = "begun", "done"
OUTSIDE = "outside the workbook"  # who moved an alias that no command of ours has moved
KEPT_UP = (
    "*The workbook keeps this text up to date; a text of your own in its place is left alone.*"
)


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    run_id: str  # empty of a version that others have made without a run
    tags: dict[str, str]
    source: str

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"

    @property
    def trusted(self) -> list[str]:
        """The types that somebody vouched for when it was registered."""
        return json.loads(self.tags.get(TRUSTED, "[]"))

    @property
    def problem(self) -> str:
        """The problem that it solves: a name, or the path of its file."""
        return self.tags.get(PROBLEM, self.name)

    @property
    def label_key(self) -> list[str]:
        """The columns by which its truth is joined later, by the problem's file of today; none where that is gone."""
        try:
            return problems.load(self.problem).monitoring.label_key
        except WorkbookError:
            return []

    @property
    def private(self) -> list[str]:
        """The columns that its problem's file marks as private: today, or when it was registered."""
        found = set(json.loads(self.tags.get(PRIVATE, "[]")))
        # the file is not everywhere where a model is served
        with contextlib.suppress(WorkbookError):
            found |= set(problems.load(self.problem).private)
        return sorted(found)


def check_name(name: str) -> None:
    """Refuse a `name` that no registered model may have."""
    if not NAME.fullmatch(name) or name.endswith(".lock"):
        raise WorkbookError(
            f"{name!r} cannot be a model's name: letters, digits, - _ and . are allowed, 100 at most, "
            "and no .lock at its end."
        )


def names() -> list[str]:
    """The registered models there are, in order."""
    tracking.use_store()
    registered, token = [], None
    while True:
        page = MlflowClient().search_registered_models(page_token=token)
        registered += [model.name for model in page if LOCK not in model.tags]
        token = page.token
        if not token:
            return sorted(registered)


def model(name: str) -> RegisteredModel:
    """MLflow's registered model `name`; a WorkbookError lists those there are."""
    tracking.use_store()
    try:
        return MlflowClient().get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        registered = names()
        list_ = (
            f"there are {', '.join(registered)}.{nearest(name, registered)}"
            if registered
            else "none is there."
        )
        of = f" --problem {name}" if problems.is_known(name) else ""
        raise WorkbookError(
            f"there is no registered model '{name}'; {list_} One is made by: workbook register{of}"
        ) from error


def versions(name: str) -> list[Version]:
    """All versions of the model `name`, the newest first."""
    model(name)
    where = f"name={text}" if (text := quoted(name)) else None
    found = MlflowClient().search_model_versions(where, max_results=10_000)
    return sorted((_version(v) for v in found if v.name == name), key=lambda v: -v.number)


def _version(found: ModelVersion) -> Version:
    tags = dict(found.tags)
    tags = json.loads(tags.pop(FACTS, "{}")) | tags  # one that was set since counts
    return Version(found.name, int(found.version), found.run_id or "", tags, found.source or "")


def aliases(name: str) -> dict[str, int]:
    """{alias: number of the version that it points to} of the model `name`."""
    return {alias: int(number) for alias, number in model(name).aliases.items()}


def pointed(name: str, alias: str) -> int | None:
    """The number of the version that `alias` of the model `name` points to now; None for none."""
    return aliases(name).get(alias)


def find(spec: str) -> Version:
    """The Version that `spec` names, as flights@production or flights/3; a WorkbookError lists those there are."""
    match = re.fullmatch(r"([^@/]+)(?:@([^@/]+)|/(\d+))", str(spec))
    if not match:
        raise WorkbookError(
            f"{spec!r} names no version; write flights@production, flights@staging or flights/3."
        )
    name, alias, number = match.groups()
    by_number = {v.number: v for v in versions(name)}
    if alias:
        check_alias(alias)
        number = pointed(name, alias)
        if number is None:
            raise WorkbookError(
                f"{name} has nothing in {alias}; put a version there: workbook promote {name} {alias}"
            )
    if int(number) not in by_number:
        raise WorkbookError(
            f"{name} has no version {number}; there are {', '.join(map(str, sorted(by_number)))}."
        )
    return by_number[int(number)]


def exists(spec: str) -> bool:
    """Whether there is the version `spec`, as flights@production or flights/3."""
    try:
        return bool(find(spec))
    except WorkbookError:
        return False


def required(spec: str) -> list[str]:
    """The columns without which the version `spec` does not answer; none where there is no such version."""
    return [*map(str, load(find(spec)).schema.required_input_names())] if exists(spec) else []


def card(version: Version) -> str:
    """The model card of `version`, as Markdown."""
    return MlflowClient().get_model_version(version.name, str(version.number)).description or ""


def as_text(names_: Iterable[str]) -> str:
    """The types or columns `names_` as a tag holds them."""
    return json.dumps(sorted(names_))


def of_run(name: str, run_id: str) -> Version | None:
    """The Version of the model `name` that this workbook registered of the run `run_id`; None without."""
    registered = versions(name) if name in names() else []
    return next((v for v in registered if v.run_id == run_id and DIGEST in v.tags), None)


def add(name: str, source: str, run_id: str, facts: dict[str, Any], description: str) -> Version:
    """The Version of the model `source` under `name`, made with the `facts` unless there is one of that run.

    They are one tag, since the UI shows all that a version has.
    """
    client = MlflowClient()
    with contextlib.suppress(MlflowException):  # it is there
        client.create_registered_model(name)
    with locked(name):
        if found := of_run(name, run_id):
            return found
        model_id = source.rpartition("/")[2]
        made = client.create_model_version(
            name,
            source,
            run_id,
            tags={FACTS: json.dumps(facts)},
            description=description,
            model_id=model_id,
        )
        describe(name)
        return _version(made)


def describe(name: str) -> None:
    """Tell on the page of the model `name` what it is and what is in use; somebody's own text is left alone."""
    found = model(name)
    if found.description and not found.description.endswith(KEPT_UP):
        return
    newest = versions(name)[0]
    lines = []
    with contextlib.suppress(WorkbookError):  # its problem's file may be gone
        lines.append(f"**{problems.load(newest.tags.get(PROBLEM, name)).title}**\n")
    for alias in reversed(ALIASES):
        number = found.aliases.get(alias)
        lines.append(
            f"- {alias}: "
            + (f"[version {number}]({ui_links.version(name, number)})" if number else "nothing")
        )
    lines.append(f"- newest: version {newest.number}; each version's own page begins with its card")
    lines.append(
        f"- how it came about: `workbook history {name}`; the runs `gate: …` hold the reports\n"
    )
    MlflowClient().update_registered_model(name, "\n".join([*lines, KEPT_UP]))


def files(version: Version) -> Path:
    """The local folder of the files of `version`; those on a server are fetched once, and kept by their digest."""
    where = None
    if re.fullmatch(r"models:/[^/]+/\d+", version.source):  # MLflow has copied it from that version
        where = MlflowClient().get_model_version_download_uri(version.name, str(version.number))
    return fetch(version.source, version.tags.get(DIGEST), where)


def fetch(source: str, digest: str | None = None, where: str | None = None) -> Path:
    """The local folder of the model `source` (models:/m-…), whose files lie at `where` and have `digest`, if known."""
    try:
        where = (
            where or MlflowClient().get_logged_model(source.rpartition("/")[2]).artifact_location
        )
    except MlflowException as error:
        raise WorkbookError(f"the files of {source} are gone ({error.message}).") from error
    if where.startswith(("file:", "/")):
        return Path(local_file_uri_to_path(where))
    cache = paths.ROOT / ".cache" / "models"
    if digest and (cache / digest).is_dir():
        return cache / digest
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, suffix=".part", ignore_cleanup_errors=True) as part:
        try:
            found = mlflow.artifacts.download_artifacts(artifact_uri=where, dst_path=part)
        except (MlflowException, OSError) as error:
            raise WorkbookError(
                f"the files of {source} can't be fetched ({first_line(error)}); try again."
            ) from error
        from Codes.saved_models import trust  # scikit-learn: a second that no list of models needs

        kept = cache / trust.digest(found)
        with contextlib.suppress(OSError):  # another process was faster
            Path(found).rename(kept)
    return kept


def load(version: Version) -> "Loaded":
    """The model of `version` as a trust.Loaded, once its files are those that were registered."""
    if DIGEST not in version.tags:
        raise WorkbookError(
            f"{version} was not registered by this workbook, so nobody knows what its files were; "
            f"register its run: workbook register {version.run_id or 'RUN'}"
        )
    from Codes.saved_models import remote

    return remote.load(files(version), version.trusted, version.tags[DIGEST])


# --- who changes what


@contextlib.contextmanager
def locked(name: str) -> Iterator[Callable[[], None]]:
    """Be the only one that changes the model `name`: whoever makes MLflow's unique entry first.

    It is held for less than a second; one that a dead process left, or that stood for PATIENCE while we looked, is
    removed. Yields a function that raises a WorkbookError where this happened to ours: this process was stopped.
    """
    client, lock = MlflowClient(), f"{name}.lock"
    mine = json.dumps(json.loads(liveness.me()) | {"token": secrets.token_hex(8)})
    busy = WorkbookError(f"{name} is being changed by another command; try again.")
    seen, end = (None, 0.0), time.monotonic() + 2 * PATIENCE
    while True:
        try:
            client.create_registered_model(lock, tags={LOCK: mine})
            break
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        owner = _owner(client, lock)
        if owner != seen[0]:
            seen = owner, time.monotonic()
        if owner and (time.monotonic() - seen[1] > PATIENCE or liveness.is_gone(owner)):
            _free(client, lock, owner)
        if time.monotonic() > end:
            raise busy
        time.sleep(0.1)

    def still_mine() -> None:
        if _owner(client, lock) != mine:
            raise busy

    try:
        yield still_mine
    finally:
        _free(client, lock, mine)


def _owner(client: MlflowClient, lock: str) -> str | None:
    """Who holds the `lock`, as its tag tells; None where it is gone, or going."""
    with contextlib.suppress(MlflowException):
        return client.get_registered_model(lock).tags.get(LOCK)
    return None


def _free(client: MlflowClient, lock: str, owner: str) -> None:
    """Remove the `lock` if it is `owner`'s."""
    if _owner(client, lock) == owner:
        with contextlib.suppress(MlflowException):  # another was faster
            client.delete_registered_model(lock)


@dataclass(frozen=True)
class Transition:  # pylint: disable=too-many-instance-attributes
    """A change of an alias: what `history` prints."""

    key: str
    time: str
    who: str
    kind: str  # promote or rollback; set: by others, seen at `time`
    alias: str
    before: int | None
    after: int | None
    why: str = ""
    gate: str = ""  # the run that holds the gate's report
    override: str = ""
    outcome: str = BEGUN  # then done, or why not


def transitions(name: str) -> list[Transition]:
    """Every Transition of the model `name`, the oldest first."""
    return _transitions(model(name))


def _transitions(registered: RegisteredModel) -> list[Transition]:
    found = []
    for key, text in registered.tags.items():
        if key.startswith(TRANSITION):
            found.append(Transition(key=key, **json.loads(text)))
    return sorted(found, key=lambda t: (datetime.fromisoformat(t.time), t.key))


def _write(name: str, transition: Transition) -> None:
    fields = {k: v for k, v in vars(transition).items() if k != "key"}
    MlflowClient().set_registered_model_tag(name, transition.key, json.dumps(fields))


def move(
    name: str, alias: str, after: int, before: int | None, kind: str = "promote", **facts: str
) -> None:
    """Let `alias` of the model `name` point to the version `after`, if it still points to `before`.

    `facts`: why, gate, override of the Transition, which is recorded first; so is one that came too late.
    """
    with locked(name) as still_mine:
        settle(name)
        wanted = _transition(name, kind=kind, alias=alias, before=before, after=after, **facts)
        current = pointed(name, alias)
        if current != before:
            last = next((t for t in reversed(transitions(name)) if t.after == current), None)
            by = f" by {last.who}" if last else ""
            reason = f"{alias} was moved to version {current}{by} meanwhile"
            _write(name, replace(wanted, outcome=f"refused: {reason}"))
            raise WorkbookError(
                f"{name}: {reason}; nothing was changed. Look at it, and try again."
            )
        _write(name, wanted)
        still_mine()
        MlflowClient().set_registered_model_alias(name, alias, str(after))
        _finish(name, wanted)
        describe(name)


def record_refused(
    name: str, alias: str, after: int, before: int | None, reason: str, **facts: str
) -> None:
    """Record a change that was not made, and the reason."""
    fields: dict[str, Any] = {"alias": alias, "before": before, "after": after, **facts}
    _write(name, _transition(name, kind="promote", outcome=f"refused: {reason}"[:1000], **fields))


def moved_outside(name: str) -> dict[str, tuple[int | None, int | None]]:
    """{alias: (the version that our commands left it at, the one it points to)}, of those that others have moved."""
    registered = model(name)
    moves = [t for t in _transitions(registered) if t.outcome in (BEGUN, DONE)]
    left = {t.alias: t.after for t in moves}
    under_way = {t.alias for t in moves if t.outcome == BEGUN}
    there = {a: int(registered.aliases[a]) if a in registered.aliases else None for a in ALIASES}
    changed = {a: (left.get(a), n) for a, n in there.items() if n != left.get(a)}
    return {a: both for a, both in changed.items() if a not in under_way}


def told_outside(name: str, alias: str, before: int | None, after: int | None) -> str:
    """In words, that others have moved the `alias` of the model `name`."""
    steps = [f"version {number}" if number else "nothing" for number in (before, after)]
    return f"{name}: {alias} was moved from {steps[0]} to {steps[1]} {OUTSIDE}"


def _transition(name: str, who: str | None = None, **fields: Any) -> Transition:
    """A Transition of the model `name` by this user, now, and after all that there are, whatever their clocks say."""
    moment = datetime.now().astimezone()
    if there := transitions(name):
        last = datetime.fromisoformat(there[-1].time).astimezone()
        moment = max(moment, last + timedelta(milliseconds=1))
    now = moment.isoformat(timespec="milliseconds")
    key = f"{TRANSITION}{now[:19]}-{secrets.token_hex(4)}".replace(":", "")
    return Transition(key=key, time=now, who=who or identity.user(), **fields)


def _finish(name: str, transition: Transition) -> None:
    """Mark the versions that `transition` has moved, and it as done."""
    _write(name, replace(transition, outcome=DONE))
    mend_stages(name)


def mend_stages(name: str) -> None:
    """Let the tag of each version say its stage: others copy a version with its tags, and move aliases without."""
    client, wanted = MlflowClient(), stages(name)
    for version in versions(name):
        stage, told = wanted.get(version.number), version.tags.get(STAGE)
        if stage and stage != told:
            client.set_model_version_tag(name, str(version.number), STAGE, stage)
        elif told and not stage:
            client.delete_model_version_tag(name, str(version.number), STAGE)


def stages(name: str) -> dict[int, str]:
    """{number: what it is in, or archived} of the versions of the model `name` that are or were in something."""
    moves = [t for t in transitions(name) if t.outcome == DONE]
    archived = {number: "archived" for t in moves for number in (t.before, t.after) if number}
    current = aliases(name)
    return archived | {current[alias]: alias for alias in ALIASES if alias in current}


def settle(name: str) -> None:
    """End what killed commands began, and record what others have moved: the alias tells. Needs the lock."""
    for transition in transitions(name):
        if transition.outcome == BEGUN:
            if pointed(name, transition.alias) == transition.after:
                _finish(name, transition)
            else:
                _write(name, replace(transition, outcome="interrupted: nothing was changed"))
    for alias, (before, after) in moved_outside(name).items():
        sentence = told_outside(name, alias, before, after)
        click.echo(f"{sentence}; its history says so now", err=True)
        fields: dict[str, Any] = {"alias": alias, "before": before, "after": after}
        why = "no command of the workbook did it, so no gate was asked; it was seen at this time"
        _finish(name, _transition(name, who=OUTSIDE, kind="set", why=why, **fields))
        describe(name)


def settled(name: str) -> list[Transition]:
    """The transitions of the model `name`, the oldest first, with those of killed commands and of others."""
    found = transitions(name)
    if any(t.outcome == BEGUN for t in found) or moved_outside(name):
        with locked(name):
            settle(name)
        found = transitions(name)
    return found


def was_in(name: str, alias: str) -> set[int]:
    """The numbers of all versions that `alias` of the model `name` ever pointed to."""
    moves = [t for t in settled(name) if t.alias == alias and t.outcome == DONE]
    return {t.after for t in moves if t.after}


def stack(name: str, alias: str = "production") -> list[int]:
    """The versions that were in `alias`, one upon the other: a rollback takes the uppermost off."""
    found = []
    for transition in settled(name):
        if transition.alias != alias or transition.outcome != DONE or not transition.after:
            continue
        if transition.kind == "rollback" and transition.after in found:
            del found[len(found) - found[::-1].index(transition.after) :]
        else:
            found.append(transition.after)
    return found
