"""The stages of `make format`, `make lint`, `make test` and `make soak`: each a command, a line and its seconds.

Everything is found by glob: a new notebook, test or Check_*.py takes part without a list to edit.
"""

import argparse
import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from Codes.ground.paths import NOTEBOOKS, RESOURCES, ROOT
from Codes.running.runner import extra_of
from Codes.testing import browser

REPORT = ROOT / "test-report"
BROWSER_TESTS = "Codes/lab/Test_browser.py"
# by nbval they are left to soak: the lifecycle has just executed their cells, which train, judge and train again
LONG_NOTEBOOKS = ("04_promote.ipynb", "06_monitor.ipynb")
GRACE = 20  # seconds that an interrupted stage has to stop its kernels and leave


@dataclass(frozen=True)
class Stage:
    """One command of a stage list; `missing` says why it can't run here, where it can't.

    One that is `beside` runs beside the others, which leave a processor idle; it has a store of its own.
    """

    name: str
    command: tuple[str, ...]
    missing: str = ""
    beside: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: its exit code, seconds, and the last line that it printed."""

    stage: Stage
    code: int
    seconds: float
    closing: str = ""

    @property
    def verdict(self) -> str:
        """The word that the terminal and the table show."""
        if self.stage.missing:
            return "skipped"
        return "ok" if self.code == 0 else "FAILED"


@dataclass
class Started:
    """A stage under way: its process, its log, and the moment of its start."""

    stage: Stage
    process: subprocess.Popen
    log: Path
    begun: float
    seconds: float | None = None

    def has_ended(self) -> bool:
        """Whether it has; the first time its seconds are taken."""
        if self.process.poll() is None:
            return False
        self.seconds = self.seconds or time.monotonic() - self.begun
        return True


def python(name: str, *arguments: str, beside: bool = False) -> Stage:
    """A stage that runs `python arguments…` with this very Python."""
    return Stage(name, (sys.executable, *arguments), beside=beside)


def binary(name: str, tool: str, *arguments: str) -> Stage:
    """A stage that runs a tool beside this Python; skipped where its wheel doesn't exist."""
    path = Path(sys.executable).parent / tool
    missing = "" if path.exists() else f"{tool} has no wheel for this platform"
    return Stage(name, (str(path), *arguments), missing)


def format_check() -> Iterator[Stage]:
    """Formatting as it should be, without touching a file."""
    yield python("format", "-m", "black", "--quiet", "--check", "--diff", "Codes", "notebooks")
    yield python("stripped", "-m", "Codes.tools.stripping", "notebooks")


def format_all() -> Iterator[Stage]:
    """The same, put right."""
    yield python("stripped", "-m", "Codes.tools.stripping", "--fix", "notebooks")
    yield python("format", "-m", "black", "Codes", "notebooks")
    yield python("words", "-m", "Codes.tools.words", "--write")
    yield python("reference", "-m", "Codes.tools.reference", "--write")


def lint(jobs: int = 2) -> Iterator[Stage]:
    """Code, notebooks, workflows and the Dockerfile; each of pylint's `jobs` reads all packages for itself."""
    yield from format_check()
    yield binary("types", "pyrefly", "check", "--python-interpreter-path", sys.executable)
    yield python("rooms", "-m", "Codes.tools.rooms")
    yield python("words", "-m", "Codes.tools.words")
    yield python("reference", "-m", "Codes.tools.reference")
    yield python("pylint", "-m", "pylint", f"--jobs={jobs}", "--score=n", "Codes")
    notebooks = [str(path.relative_to(ROOT)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    if notebooks:
        yield python("pylint notebooks", "-m", "nbqa", "pylint", "--score=n", *notebooks)
        # a cell's own id looks like a random hexadecimal string
        ids = ("--exclude-lines", r'^\s*"id": ')
        yield binary("secrets", "detect-secrets-hook", *ids, *notebooks)
    schedule = "Resources/schedules/github.yml"
    yield binary("workflows", "actionlint", ".github/workflows/main.yml", schedule)
    yield binary(
        "workflow security", "zizmor", "--offline", "--quiet", ".github/workflows", schedule
    )
    scripts = [path for path in sorted((ROOT / ".ci").iterdir()) if path.is_file()]
    scripts += sorted((ROOT / ".devcontainer").glob("*.sh"))
    yield binary("scripts", "shellcheck", *(str(path.relative_to(ROOT)) for path in scripts))
    yield binary("Dockerfile", "hadolint", ".devcontainer/Dockerfile")


def docs() -> Iterator[Stage]:
    """The site of the pages; a link or an anchor that leads nowhere is a failure."""
    yield python("words", "-m", "Codes.tools.words")
    yield python("reference", "-m", "Codes.tools.reference")
    yield python("site", "-m", "mkdocs", "build", "--strict")  # `--quiet` would let it pass


def test() -> Iterator[Stage]:
    """What proves the workbook, with one case of each kind."""
    yield from everything("-m", "not soak")


def soak() -> Iterator[Stage]:
    """The same with every case, kill point and round."""
    yield from everything()


def everything(*chosen_tests: str) -> Iterator[Stage]:
    """Lint, the tests that these options of pytest choose, the samples, the notebooks."""
    # it takes as long as half of the tests, and nothing waits for it
    yield from (replace(stage, beside=stage.name == "pylint") for stage in lint(jobs=1))
    pytest = ("-m", "pytest", "-q", "--dist", "loadfile", "-p", "no:cacheprovider", "-n")
    at_once = str(min(4, 2 * (os.cpu_count() or 1)))  # half of the time they wait
    options = ("--no-loadscope-reorder", "--durations=10", f"--junitxml={REPORT / 'unit.xml'}")
    extras = sorted((ROOT / "Codes" / "networks").glob("Test_*_net.py"))
    others = [f"--ignore={module}" for module in extras]
    others += [f"--ignore={BROWSER_TESTS}"]
    yield python("unit", *pytest, at_once, *options, *others, *chosen_tests, "Codes", beside=True)
    for module in extras:  # such as Test_torch_net.py
        extra = module.stem.split("_")[1]
        yield of_extra(extra, extra, *pytest, "0", str(module.relative_to(ROOT)))
    for check in sorted((ROOT / "Codes").glob("Check_*.py")):
        yield python(check.stem, str(check.relative_to(ROOT)))
    if any(NOTEBOOKS.glob("*.ipynb")):
        # 04 to 06 look for what those before them have left
        yield python("lifecycle", "-m", "Codes.commands.cli", "run", "--no-progress")
        nbval = ("--nbval-lax", "--nbval-sanitize-with", str(RESOURCES / "nbval_sanitize.cfg"))
        report = f"--junitxml={REPORT / 'notebooks.xml'}"
        if (Path(sys.prefix) / "share/jupyter/kernels/workbook").is_dir():
            nbval = ("--nbval-kernel-name", "workbook", *nbval)  # warm
        own = {p: extra for p in sorted(NOTEBOOKS.glob("*.ipynb")) if (extra := extra_of(p))}
        left_out = [f"--ignore={path}" for path in own]
        left_out += [f"--ignore={NOTEBOOKS / name}" for name in LONG_NOTEBOOKS if chosen_tests]
        yield python("notebooks", *pytest, "2", *nbval, report, *left_out, "notebooks")
        for path, extra in own.items():
            yield of_extra(extra, f"{extra} notebook", *pytest, "0", *nbval, str(path))
    stage = python("browser", *pytest, "0", BROWSER_TESTS)  # looks at what the lifecycle has left
    yield replace(stage, missing=browser.missing())


def of_extra(extra: str, name: str, *pytest: str) -> Stage:
    """The stage `name` of tests that need a framework which is an `extra`, called as its module."""
    missing = f'{extra} is an extra: make install EXTRAS="{extra}"'
    is_there = importlib.util.find_spec(extra) is not None
    stage = python(name, *pytest)
    return stage if is_there else replace(stage, missing=missing)


GROUPS = {
    "format": format_all,
    "format-check": format_check,
    "lint": lint,
    "docs": docs,
    "test": test,
    "soak": soak,
}


def clean_environment(store: Path) -> dict[str, str]:
    """The caller's environment without MLflow's own variables, pointed at an empty store.

    Args:
        store: a temporary folder; the caller's runs are neither seen nor touched.
    """
    # whose modules are compiled once, not by each of a thousand processes
    left_out = ("MLFLOW_", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    beside = str(Path(sys.executable).parent)
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # more processes run than there are processors: threads of OpenMP that wait for one another, turning, would make
        # a training of 0.3 s one of 6 s and more
        "OMP_NUM_THREADS": "1",
        "PATH": beside + os.pathsep + kept.get("PATH", ""),
    }


def start(stage: Stage, environment: dict[str, str]) -> Started:
    """Start a stage with its output in a log of its name."""
    log = REPORT / f"{stage.name.replace(' ', '_')}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            stage.command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT
        )
    return Started(stage, process, log, time.monotonic())


def stop(started: list[Started]) -> None:
    """Let what is under way stop its own children, as Ctrl-C told it, and leave."""
    end = time.monotonic() + GRACE
    for each in started:
        try:
            each.process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def closing_line(log: Path) -> str:
    """The last line with anything in it: for pytest, the counts."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def slowest(log: Path) -> list[str]:
    """The lines of pytest's table of slowest tests, where there is one."""
    lines = log.read_text(errors="replace").splitlines()
    starts = [i for i, line in enumerate(lines, 1) if re.match("=+ slowest .* =+$", line)]
    table = lines[starts[-1] :] if starts else []
    return list(itertools.takewhile(re.compile(r"[\d.]+s ").match, table))


def ended(started: Started) -> Outcome:
    """Print the line of a stage that has ended, and its slowest tests; a failed one shows all that it had printed."""
    stage, code, log = started.stage, started.process.returncode, started.log
    outcome = Outcome(stage, code, started.seconds or 0.0, closing_line(log))
    shown = outcome.closing if "pytest" in stage.command else ""
    print(f"{stage.name:<20}{outcome.verdict:<8}{outcome.seconds:6.1f} s", shown, flush=True)
    for line in slowest(log):
        print(f"{'':<20}{line}")
    if code != 0:
        print(f"$ {shlex.join(stage.command)}\n{log.read_text(errors='replace')}", flush=True)
    return outcome


def skipped(stage: Stage) -> Outcome:
    """Print the line of a stage that cannot run here."""
    print(f"{stage.name:<20}skipped    {stage.missing}")
    return Outcome(stage, 0, 0.0, stage.missing)


def as_markdown(outcomes: list[Outcome]) -> str:
    """A table of the outcomes, for the job page of continuous integration."""
    rows = [
        f"| {each.stage.name} | {each.verdict} | {each.seconds:.1f} | "
        f"{each.closing.strip('= ').replace('|', '/') if each.closing else ''} |"
        for each in outcomes
    ]
    version = ".".join(map(str, sys.version_info[:3]))
    head = [f"### Python {version}", "", "| stage | result | seconds | last line |"]
    return "\n".join([*head, "|---|---|---:|---|", *rows, ""])


def chosen(group: str, only: str) -> list[Stage]:
    """The stages of a group, or those whose name starts with a word of `only`."""
    stages = list(GROUPS[group]())
    words = only.split()
    if not words:
        return stages
    found = [stage for stage in stages if stage.name.startswith(tuple(words))]
    if not found:
        names = ", ".join(stage.name for stage in stages)
        raise SystemExit(f"ONLY={only!r} matches no stage; there are: {names}")
    return found


def performed(stages: list[Stage], environments: dict[bool, dict[str, str]]) -> Iterator[Outcome]:
    """Run the stages one after another, those that are `beside` beside them; each as it ends.

    Args:
        environments: by whether a stage is `beside`.
    """
    yield from (skipped(stage) for stage in stages if stage.missing)
    able = [stage for stage in stages if not stage.missing]
    waiting = [stage for stage in able if not stage.beside]
    under_way = [start(stage, environments[True]) for stage in able if stage.beside]
    try:
        while waiting or under_way:
            if waiting and all(each.stage.beside for each in under_way):
                under_way.append(start(waiting.pop(0), environments[False]))
            for each in [each for each in under_way if each.has_ended()]:
                under_way.remove(each)
                yield ended(each)
            time.sleep(0.05)
    finally:
        stop(under_way)


def perform_all(stages: list[Stage]) -> list[Outcome]:
    """Run the stages, all of them, and keep the table up to date."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="workbook-test-") as folder:
        stores = {beside: Path(folder) / str(beside) for beside in (True, False)}
        for store in stores.values():
            store.mkdir()
        environments = {beside: clean_environment(store) for beside, store in stores.items()}
        for outcome in performed(stages, environments):
            outcomes.append(outcome)
            (REPORT / "summary.md").write_text(as_markdown(outcomes), encoding="utf-8")
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    """Run a group of stages; the exit code is 0 only if each passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=sorted(GROUPS))
    group = parser.parse_args(arguments).group
    REPORT.mkdir(exist_ok=True)
    try:
        outcomes = perform_all(chosen(group, os.environ.get("ONLY", "")))
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    failed = [outcome.stage.name for outcome in outcomes if outcome.code != 0]
    print(f"failed: {', '.join(failed)}" if failed else f"{len(outcomes)} stages passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
