"""MLflow Models: one saved model, used from Python, over REST, and for a whole file.

    python Codes/Check_models.py

Expected output:

    flavors     python_function, sklearn
    saved by    skops
    signature   30 columns in, mean radius: double
    pyfunc      ['benign', 'benign', 'benign']
    REST        ['benign', 'benign', 'benign'] by version 1
    refused     400: dataframe_split: column 'mean radius' is missing
    batch       569 of 569 rows scored
"""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd

from Codes.ground.errors import WorkbookError
from Codes.model_registry import promotion, registry
from Codes.problems import data, problem
from Codes.scoring import job
from Codes.serving import client
from Codes.testing import samples

NAME = "breast_cancer"


def report(folder: Path) -> Iterator[str]:
    """The lines of the expected output, from one model and files in `folder`."""
    question = problem.load(NAME)
    version = promotion.register(samples.train(NAME, "linear"))
    model = mlflow.pyfunc.load_model(version.source)
    flavors = model.metadata.flavors
    yield f"flavors     {', '.join(sorted(flavors))}"
    yield f"saved by    {flavors['sklearn']['serialization_format']}"
    first = model.metadata.signature.inputs.inputs[0]
    yield f"signature   {len(model.metadata.signature.inputs)} columns in, {first.name}: {first.type.name}"
    frame = data.features(data.whole(question), question)
    rows = frame.iloc[[19, 20, 21]]
    yield f"pyfunc      {list(np.asarray(model.predict(rows)))}"
    with client.Server(f"{NAME}/1", "--capture", "0") as server:
        reply = client.ask(server.url, rows)
        yield f"REST        {reply['predictions']} by version {reply['version']}"
        try:
            client.ask(server.url, rows.drop(columns="mean radius"))
        except WorkbookError as error:
            yield f"refused     {error.message.partition(';')[0].rstrip('.')}"
    frame.to_parquet(folder / "table.parquet")
    done = job.score(
        version,
        registry.load(version),
        folder / "table.parquet",
        folder / "out.parquet",
        progress=False,
        say=lambda line: None,
    )
    scored = pd.read_parquet(folder / "out.parquet")
    assert len(scored) == done.scored and (scored.model_version == 1).all()
    yield f"batch       {done.scored} of {done.rows} rows scored"


if __name__ == "__main__":
    samples.check(report, __doc__)
