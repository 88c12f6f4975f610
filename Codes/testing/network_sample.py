"""What the samples of networks show: one from its first epoch to production, by the commands of any other model."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd

from Codes.ground.errors import WorkbookError
from Codes.model_registry import promotion, registry
from Codes.modeling import models
from Codes.problems import data, problem
from Codes.saved_models import trust
from Codes.scoring import job
from Codes.serving import client
from Codes.testing import samples

NAME = "breast_cancer"
OWN_FORMATS = (".pt", ".pt2", ".pth", ".bin", ".pkl", ".safetensors", ".keras", ".h5", ".pb")


def report(model: str, folder: Path) -> Iterator[str]:
    """The lines that its sample promises, from a network by the short name `model` and files in `folder`."""
    run_id = samples.train(NAME, model, f"02_train_{model}", epochs=4)
    history = mlflow.MlflowClient().get_metric_history(run_id, "epoch_loss_train")
    assert history[-1].value < history[0].value
    yield f"learned     {len(history)} epochs, each with its loss; on its own rows the last is below the first"
    version = promotion.register(run_id)
    loaded = registry.load(version)
    (file,) = (p.name for p in loaded.folder.iterdir() if p.suffix in (".skops", *OWN_FORMATS))
    yield f"saved       as arrays in {file}, without a file of the framework's"
    pinned = {pin.partition("==")[0] for pin in trust.pins(loaded.folder)}
    yield f"pins        {', '.join(sorted(pinned - set(trust.PACKAGES)))}, beside those of every model"
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


def check(model: str, framework: str, doc: str) -> None:
    """Check what the docstring `doc` promises of the short name `model`; say so where its `framework` is missing."""
    if model in models.names():
        samples.check(partial(report, model), doc)
    else:
        print(
            f'{framework} is not installed, so there is nothing to show: make install EXTRAS="{model}"'
        )
