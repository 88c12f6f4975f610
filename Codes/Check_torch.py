"""PyTorch: a network, from its first epoch to production, by the commands of any other model.

    python Codes/Check_torch.py

Where PyTorch is not installed it says so in a line, and is done.

Expected output:

    learned     4 epochs, each with its loss; none but the first above the one before
    saved       as arrays in model.skops, without a file of PyTorch's
    pins        torch, beside those of every model
    gate        breast_cancer version 1: passed
    REST        ['benign', 'benign', 'benign'] by version 1
    batch       569 of 569 rows scored
    altered     refused: its files are not those that were registered
"""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import mlflow
import pandas as pd

from Codes.ground.errors import WorkbookError
from Codes.model_registry import promotion, registry
from Codes.networks import network, torch_net
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.scoring import job
from Codes.serving import client
from Codes.testing import samples

NAME = "breast_cancer"
OF_PYTORCH = (".pt", ".pt2", ".pth", ".bin", ".pkl", ".safetensors")


def report(folder: Path) -> Iterator[str]:
    """The lines of the expected output, from one network and files in `folder`."""
    run_id = samples.train(NAME, "torch", "02_train_torch", epochs=4)
    history = mlflow.MlflowClient().get_metric_history(run_id, "epoch_loss")
    assert all(later.value < before.value for before, later in pairwise(history))
    yield f"learned     {len(history)} epochs, each with its loss; none but the first above the one before"
    version = promotion.register(run_id)
    loaded = registry.load(version)
    (file,) = (p.name for p in loaded.folder.iterdir() if p.suffix in (".skops", *OF_PYTORCH))
    yield f"saved       as arrays in {file}, without a file of PyTorch's"
    pinned = {pin.partition("==")[0] for pin in trust.pins(loaded.folder)}
    yield f"pins        {', '.join(pinned - set(trust.PACKAGES))}, beside those of every model"
    promotion.promote(NAME, "staging", version.number)
    _, passed = promotion.promote(NAME, "production", version.number)
    assert passed is not None
    yield f"gate        {version}: {'passed' if passed.passed else 'refused'}"
    yield from _answered(version, loaded, folder)


def _answered(version: registry.Version, loaded: trust.Loaded, folder: Path) -> Iterator[str]:
    """The lines of what is asked of the version in production."""
    frame = data.features(data.whole(problem.load(NAME)), problem.load(NAME))
    with client.Server(f"{NAME}@production", "--capture", "0") as server:
        reply = client.ask(server.url, frame.iloc[[19, 20, 21]])
        yield f"REST        {reply['predictions']} by version {reply['version']}"
    frame.to_parquet(folder / "table.parquet")
    done = job.score(
        version,
        loaded,
        folder / "table.parquet",
        out := folder / "out.parquet",
        progress=False,
        say=lambda line: None,
    )
    assert pd.read_parquet(out).prediction.isin(["benign", "malignant"]).all()
    yield f"batch       {done.scored} of {done.rows} rows scored"
    copy = shutil.copytree(loaded.folder, folder / "copy")
    with (copy / "model.skops").open("ab") as altered:
        altered.write(b"!")
    try:
        trust.load(copy, expected=loaded.digest)
    except WorkbookError as error:
        yield f"altered     refused: {error.message.partition(': ')[2].partition(':')[0]}"


if __name__ == "__main__":
    if network.is_installed(torch_net.TorchClassifier):
        samples.check(report, __doc__)
    else:
        print('PyTorch is not installed, so there is nothing to show: make install EXTRAS="torch"')
