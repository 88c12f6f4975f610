"""What a graphics card is worth to a network: each framework's notebook on the processor and the card, turn about."""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence

import mlflow
from mlflow import MlflowClient

from Codes.bench.bench_report import Environment, Row, row, say
from Codes.bench.bench_serve import HERE, WORKBOOK
from Codes.bench.bench_sweep import printed
from Codes.ground.errors import WorkbookError

# how each framework calls the card that it sees; nothing where it sees none
CARDS = {
    "torch": "import torch as t; print(t.cuda.get_device_name() if t.cuda.is_available() else '')",
    "tensorflow": "import tensorflow as t; f = t.config.list_physical_devices('GPU'); "
    "print(t.config.experimental.get_device_details(f[0])['device_name'] if f else '')",
}
DEVICES = ("cpu", "cuda")
EPOCHS = 8


def cards(environment: Environment) -> dict[str, str]:
    """{framework: the card that it sees} of those that see one."""
    found = {}
    for name, code in CARDS.items():
        if importlib.util.find_spec(name):
            quiet = {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
            asked = [sys.executable, "-c", code]
            done = subprocess.run(asked, env=quiet, capture_output=True, text=True, check=False)
            found[name] = done.stdout.strip().rpartition("\n")[2]
    return {name: card for name, card in found.items() if card}


def measure(rounds: int, environment: Environment, asked: bool) -> list[Row]:
    """The rows of each framework on each device: the seconds of training on all rows of flights; scores are told.

    Without a card there is nothing to measure: that is refused where it was `asked` for by name.
    """
    seen = cards(environment)
    if not seen and asked:
        raise WorkbookError(
            "SECTIONS=gpu: neither PyTorch nor TensorFlow sees a graphics card here; install the extra's build for it."
        )
    rows: list[Row] = []
    for name, card in seen.items():
        found: dict[str, list[dict[str, float]]] = {device: [] for device in DEVICES}
        for number in range(1, rounds + 1):
            for device, runs in found.items():
                runs.append(_trained(name, device, number, environment))
                say("gpu", number, rounds, f"{name} on {device},", runs[-1]["fit_seconds"])
        rows += [_row(name, device, card, runs) for device, runs in found.items()]
    return rows


def _trained(name: str, device: str, seed: int, environment: Environment) -> dict[str, float]:
    """The metrics of a run on all rows by the `seed`."""
    given = [
        "-p",
        "rows",
        "0",
        "-p",
        "epochs",
        str(EPOCHS),
        "-p",
        "device",
        device,
        "-p",
        "seed",
        str(seed),
    ]
    printed(
        [*WORKBOOK, "run", f"02_train_{name}", *given, "--no-progress"], {**environment, **HERE}
    )
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    client = MlflowClient()
    experiment = client.get_experiment_by_name(HERE["MLFLOW_EXPERIMENT_NAME"])
    assert experiment  # the run has just made it
    (run,) = client.search_runs([experiment.experiment_id], max_results=1)
    return run.data.metrics


def _row(name: str, device: str, card: str, runs: Sequence[Mapping[str, float]]) -> Row:
    scores = [f"{each['validation_roc_auc']:.4f}" for each in runs]
    where = card if device == "cuda" else "the processor"
    told = (
        f"{name} on {where}: {EPOCHS} epochs over all rows of flights; ROC AUC {', '.join(scores)}"
    )
    return row("gpu", f"{name}_{device}", told, 1, [each["fit_seconds"] for each in runs])
