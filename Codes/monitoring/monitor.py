"""A version watched over a table, window by window: what `workbook monitor` and the notebook call."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from Codes.ground.errors import WorkbookError
from Codes.model_registry import registry
from Codes.model_registry.registry import Version
from Codes.drift import judge, watched as watching, windows
from Codes.monitoring import kept_reference, quality, record, webhook
from Codes.drift.judge import Judged, Policy, Status
from Codes.monitoring.record import Keeper, Kept
from Codes.monitoring.quality import Quality
from Codes.drift.reference import Profile
from Codes.drift.watched import Watched
from Codes.runs import liveness
from Codes.saved_models.trust import Loaded


@dataclass(frozen=True, eq=False)
class Monitored:  # pylint: disable=too-many-instance-attributes
    """What came of it: the version, what it was held against, and what is kept of each window."""

    version: Version
    loaded: Loaded
    profile: Profile
    policy: Policy
    watched: Watched
    kept: list[Kept]
    keeper: Keeper
    seconds: float

    @property
    def judged(self) -> list[Judged]:
        """The verdict on each window."""
        return [each.judged for each in self.kept]

    @property
    def told(self) -> list[Kept]:
        """The windows of which there is news; where there is none, the last one that is over."""
        if news := [each for each in self.kept if each.is_new]:
            return news
        return [each for each in self.kept if each.judged.window.is_over][-1:] or self.kept[-1:]

    @property
    def notes(self) -> list[str]:
        """What has to be known of the reference and of the table."""
        return [*self.profile.notes, *self.watched.notes]

    def figure(self) -> "record.course.Figure":
        """The course of the version as a figure."""
        return self.keeper.figure(self.judged)


def version_of(name: str) -> Version:
    """The version to watch: in production, else in staging, of a model's name; or the one that flights/3 names."""
    if "/" in name or "@" in name:
        return registry.find(name)
    pointed = registry.aliases(name)
    number = pointed.get("production") or pointed.get("staging")
    if number is None:
        raise WorkbookError(
            f"{name} has no version in production or staging to watch; put one there: workbook promote {name} staging"
        )
    return registry.find(f"{name}/{number}")


def prepared(
    name: str, say: Callable[[str], object] = lambda text: None
) -> tuple[Version, Loaded, Profile, Policy]:
    """(the version that `name` means, its model, what windows are held against, by what policy)."""
    version = version_of(name)
    say(f"watching {version}")
    loaded = registry.load(version)
    reference = kept_reference.of(version, loaded)
    problem = reference.problem
    profile = Profile(reference)
    return version, loaded, profile, Policy.of(problem, reference.window, profile.size)


def calibrate(name: str, streams: int = 40, seed: int = 0) -> tuple[Quality, str]:
    """(the Quality of the watch over `name`, the id of the MLflow run that keeps it)."""
    version, _, profile, policy = prepared(name)
    measured = quality.measure(profile, policy, streams, seed=seed)
    return measured, record.keep_quality(version, profile, policy, measured)


def monitor(  # pylint: disable=too-many-arguments,too-many-positional-arguments,too-many-locals
    name: str,
    period: str = "",
    table: str | Path | None = None,
    captured: bool | Path = False,
    say: Callable[[str], object] = lambda text: None,
    most: int | None = None,
) -> Monitored:
    """Judge the windows of what came after the training of `name` (or of a `table`, or of `captured` requests).

    Args:
        period: of the windows that are told of: '2013-04'; all are judged, since an alarm needs those before.
        say: is called with what is begun, which takes seconds.
        captured: watch these; the folder where `workbook serve` keeps them, or True for its default.
        most: so many windows are judged, the first ones; by default all.
    """
    liveness.close_dead_runs()
    version, loaded, profile, policy = prepared(name, say)
    reference, began = profile.reference, time.monotonic()
    watched = watching.of(version, reference, table, captured)
    watched = replace(watched, windows=watched.windows[:most])
    if not watched.windows:
        raise WorkbookError(
            f"{watched.source}: it has no row with a time: there is nothing to judge."
        )
    chosen = list(windows.chosen(watched.windows, period)) if period else watched.windows
    judged = judge.judge(watched, profile, loaded, policy, say)
    keeper = Keeper(version, profile, policy, watched)
    kept = keeper.keep(judged)
    if period:
        names = {window.name for window in chosen}
        kept = [each for each in kept if each.judged.window.name in names]
    seconds = time.monotonic() - began
    return Monitored(version, loaded, profile, policy, watched, kept, keeper, seconds)


def status(monitored: Monitored, period: str = "") -> Status:
    """What the command ends with: the gravest of the windows that are told of."""
    told = monitored.kept if period else monitored.told
    return judge.worst([each.judged for each in told])


def tell(monitored: Monitored) -> str:
    """Send the alarms that are new to the webhook of the problem's file; why that failed, empty where it did not."""
    to = monitored.profile.reference.problem.monitoring.webhook
    news = [
        k.judged.sentence for k in monitored.kept if k.is_new and k.judged.status in judge.GRAVE
    ]
    if not to or not news:
        return ""
    try:
        address = webhook.address(to)
    except WorkbookError as error:  # what was found is kept all the same
        return error.message
    return webhook.send(address, "\n".join([f"{monitored.version}:", *news]))
