"""The pictures of the README and the pages, made from the runs in the store: `make pictures`.

A sweep's or the runs' leaderboard and the gate's report, light and dark; MLflow's UI where there is a browser.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from Codes.comparison import leaderboard, standings, verdict
from Codes.comparison.contestants import Choice
from Codes.figures import plots
from Codes.ground.errors import WorkbookError
from Codes.ground.paths import ROOT
from Codes.judgement import validation
from Codes.model_registry import promotion, registry
from Codes.problems import problem as problems
from Codes.runs import tracking
from Codes.stores import store
from Codes.testing import browser

FOLDER = ROOT / "docs" / "pictures"
SIZE = 1400, 900  # pixels of the browser's window
PORT = 5093
COLOURS = 128  # of a picture: a third of the bytes


def main(arguments: list[str]) -> int:
    """Make the pictures of the problem that is named, by default flights; the exit status."""
    problem = (arguments or ["flights"])[0]
    store.open_store()
    try:
        for path in made(problem):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    except WorkbookError as error:
        print(f"make pictures: {error.message}", file=sys.stderr)
        return 1
    return 0


def made(problem: str) -> Iterator[Path]:
    """Make each picture; its path."""
    choice = standings.of(problem)
    if not choice.contestants:
        raise WorkbookError(f"there is no scored run on {problem}; make some: make run")
    FOLDER.mkdir(parents=True, exist_ok=True)
    yield from both(board(choice), "runs")
    trials = of_sweep(problem)
    if not trials.contestants:
        raise WorkbookError(f"there is no sweep on {problem}; make one: make sweep")
    yield from both(board(trials), "sweep")
    gates = [v.tags.get(promotion.GATE, "") for v in registry.versions(choice.problem)]
    reports = (promotion.artifact(gate, "gate.png") for gate in gates if gate)
    report = next(filter(None, reports), None)
    if report is None:
        raise WorkbookError(f"no version of {choice.problem} was at the gate: make run")
    yield from both(Image.open(io.BytesIO(report)), "gate")
    if reason := browser.missing():
        print(f"the UI is left out: {reason}")
        return
    yield kept(of_ui(choice.problem), "ui_runs")


def of_sweep(problem: str) -> Choice:
    """The Choice among the trials of the newest sweep on `problem`; without contestants where there is none."""
    question, runs = problems.load(problem), tracking.runs(problem)
    trials = runs[runs.run_id.isin(leaderboard.trials(question, runs).run_id)]
    return verdict.choose(question, trials, validation.digest(question), problem)


def board(choice: Choice) -> Image.Image:
    """The leaderboard of `choice`."""
    return drawn(plots.leaderboard(leaderboard.frame(choice), choice.metric))


def drawn(figure: Figure) -> Image.Image:
    """`figure` as it is seen at twice the size of a notebook."""
    file = io.BytesIO()
    figure.savefig(file, dpi=160, facecolor="white")
    return Image.open(file)


def both(picture: Image.Image, name: str) -> Iterator[Path]:
    """Keep `picture` for a light page, and for a dark one."""
    yield kept(picture, name)
    yield kept(darkened(picture), f"{name}-dark")


def darkened(picture: Image.Image) -> Image.Image:
    """`picture` with light and dark exchanged, each colour in its own hue."""
    rgb = np.asarray(picture.convert("RGB"), dtype=float)
    lightness = (rgb.max(axis=2, keepdims=True) + rgb.min(axis=2, keepdims=True)) / 2
    turned = rgb + (
        255 - 2 * lightness
    )  # the same differences of red, green and blue about the other lightness
    background = np.array([13, 17, 23])  # of a dark page
    return Image.fromarray((background + turned * (240 - background) / 255).round().astype("uint8"))


def kept(picture: Image.Image, name: str) -> Path:
    """The path of `picture`, written with few colours."""
    path = FOLDER / f"{name}.png"
    picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    return path


def of_ui(problem: str) -> Image.Image:
    """The runs on `problem` as MLflow's UI shows them where `workbook ui` lands."""
    command = [sys.executable, "-m", "Codes.commands.cli", "ui", problem, "--no-open"]
    with subprocess.Popen(
        [*command, "--port", str(PORT)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().partition("MLflow UI: ")[2].strip()
            if not address:
                raise WorkbookError("MLflow's UI did not start")
            return photographed(address)
        finally:
            server.terminate()


def photographed(address: str) -> Image.Image:
    """What a browser shows at `address`, once a person has closed what MLflow opens beside its first page."""
    with tempfile.TemporaryDirectory() as folder, browser.opened(Path(folder)) as page:
        page.chrome.set_window_size(*SIZE)
        page.open(address)
        page.find('[role="row"] a')
        page.close_assistant()
        return Image.open(io.BytesIO(page.chrome.get_screenshot_as_png()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
