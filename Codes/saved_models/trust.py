"""Models loaded without running their code: files are held against digests and types against our own list, first.

A model's folder can name its own loader, its own code and the types that skops is to trust. None of that is believed:
what may be in it is decided here.
"""

import hashlib
import json
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mlflow.models import Model
from mlflow.types import Schema
from sklearn.base import is_regressor

# pyrefly: ignore[missing-module-attribute]  # its stubs are of scikit-learn 1.3
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline

from Codes.ground import manifest, paths
from Codes.ground.errors import WorkbookError, first_line
from Codes.saved_models.skops_alone import io as skops
from Codes.tables import cell_values

# Beyond skops' own list of safe types: what scikit-learn's estimators and ours consist of, and functions that only
# compute. What runs a function that it was given (PyFuncDistance64) is not among them.
_KNOWN = {
    "Codes.dates": "Dates",
    "Codes.networks.tensorflow_net": "TensorFlowClassifier TensorFlowRegressor",
    "Codes.networks.torch_net": "TorchClassifier TorchRegressor",
    "collections": "OrderedDict",
    "functools": "partial",
    "numpy": "dtype",
    "sklearn._loss.loss": "HalfTweedieLoss HalfTweedieLossIdentity",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_regression r_regression",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern "
    "PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    "sklearn.impute._iterative": "IterativeImputer _ImputerTriplet",
    "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss d2_brier_score "
    "d2_log_loss_score f1_score jaccard_score log_loss matthews_corrcoef precision_score recall_score",
    "sklearn.metrics._dist_metrics": "BrayCurtisDistance64 CanberraDistance64 ChebyshevDistance64 DiceDistance64 "
    "EuclideanDistance64 HammingDistance64 HaversineDistance64 JaccardDistance64 MahalanobisDistance64 "
    "ManhattanDistance64 MinkowskiDistance64 RogersTanimotoDistance64 RussellRaoDistance64 SEuclideanDistance64 "
    "SokalMichenerDistance64 SokalSneathDistance64",
    "sklearn.metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._regression": "d2_absolute_error_score explained_variance_score max_error mean_absolute_error "
    "mean_absolute_percentage_error mean_gamma_deviance mean_poisson_deviance mean_squared_error "
    "mean_squared_log_error median_absolute_error r2_score root_mean_squared_error root_mean_squared_log_error",
    "sklearn.metrics._scorer": "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer",
    "sklearn.model_selection._search_successive_halving": "HalvingGridSearchCV HalvingRandomSearchCV",
    "sklearn.model_selection._split": "KFold StratifiedKFold",
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neighbors._ball_tree": "BallTree",
    "sklearn.neighbors._kd_tree": "KDTree",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.tree._tree": "Tree",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    "sklearn.utils.validation": "check_array",
}
TYPES = frozenset(f"{module}.{name}" for module, names in _KNOWN.items() for name in names.split())
# What loading a model of ours takes; a model may pin these, and the packages of types that somebody vouched for.
PACKAGES = ("mlflow", "scikit-learn", "skops", "numpy", "pandas", "scipy")
OF_NETWORKS = (
    "torch",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
)  # and what a network of ours may pin beside
ALIKE = (
    "mlflow",
)  # reads what another version of it has written: the model is skops' and scikit-learn's
LOADER = "mlflow.sklearn"
CLOSE = 1e-9  # how far a recorded answer and today's may be apart
READING = "reading"  # in a model's metadata: how the text of its table was read
PREDICTED = "predicted"  # in a model's metadata: what it answered for its example when it was saved
VOUCHED = "mlflow.workbook.trusted"  # a run's tag: the types for which its user vouched when the model was saved


class OtherPackages(WorkbookError):
    """The refusal of a model that would have to be loaded with the packages that it was saved with."""


def digest(folder: str | Path) -> str:
    """One digest, 64 hexadecimal characters, of all files under `folder` and their names."""
    return _of(manifest.of_folder(folder))


def _of(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Loaded:
    """A model that may be used: its fitted `pipeline`, and what MLflow keeps with it in `folder`."""

    pipeline: Any
    meta: Model
    folder: Path
    trusted: tuple[str, ...] = ()  # types that somebody vouched for, beside TYPES
    digest: str = ""  # of its files

    @property
    def schema(self) -> Schema:
        """The columns that it takes: name, MLflow type, required."""
        return self.meta.signature.inputs

    @property
    def labels(self) -> list | None:
        """The classes in the order of `probabilities`; None for a regression."""
        return classes(self.pipeline)

    @property
    def gives_probabilities(self) -> bool:
        """Whether it gives a probability of each of `labels`."""
        return self.labels is not None and hasattr(self.pipeline, "predict_proba")

    @cached_property
    def categories(self) -> dict[str, set]:
        """{column: the set of values that training saw} of each categorical column."""
        if hasattr(self.pipeline, "facts"):  # a remote.Remote, which was told them
            return {name: set(known) for name, known in self.pipeline.facts["categories"].items()}
        found = {}
        for _, encoder, columns in getattr(self.pipeline[0], "transformers_", ()):
            for column, values in zip(columns, getattr(encoder, "categories_", ())):
                found[column] = {v for v in values if not pd.isna(v)}
        return found

    @cached_property
    def example(self) -> pd.DataFrame | None:
        """The rows that were saved with the model, as a frame; None without."""
        rows: Any = self.meta.load_input_example(str(self.folder)) if self._has_example() else None
        return None if rows is None else plain(rows)

    def _has_example(self) -> bool:
        return bool(self.meta.saved_input_example_info)

    @property
    def reading(self) -> cell_values.Reading:
        """How text is read as it was in training: a cell_values.Reading."""
        return cell_values.Reading.of(
            (self.meta.metadata or {}).get(READING, {}).get("options", {})
        )

    @property
    def yes_no(self) -> list[str]:
        """The columns of numbers that held true, false and gaps in training."""
        return (self.meta.metadata or {}).get(READING, {}).get("yes_no", [])

    @property
    def unused(self) -> list[str]:
        """The columns that its training table had and it does not take: the target, the time, the excluded."""
        return (self.meta.metadata or {}).get(READING, {}).get("unused", [])

    @property
    def kinds(self) -> dict[str, str]:
        """{column: MLflow's type of it} of the columns that it takes."""
        return {
            str(each.name): getattr(each.type, "name", str(each.type))
            for each in self.schema.inputs
        }

    @property
    def recorded(self) -> list | None:
        """What it answered for its example when it was saved; None where that was not kept."""
        return (self.meta.metadata or {}).get(PREDICTED)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """The prediction for each row of `frame`, in which the schema's columns are, in any order: (n,) array."""
        return np.asarray(self.pipeline.predict(self.ordered(frame)))

    def probabilities(self, frame: pd.DataFrame) -> np.ndarray | None:
        """The probability of each of `labels` for each row: (n, classes) array; None where it gives none."""
        if not self.gives_probabilities:
            return None
        return self.pipeline.predict_proba(self.ordered(frame))

    def ordered(self, frame: pd.DataFrame) -> pd.DataFrame:
        """`frame` as the pipeline takes it: the schema's columns in their order, text as text."""
        return plain(frame[self.schema.input_names()])

    def answers(self, frame: pd.DataFrame) -> np.ndarray:
        """Probabilities where there are any, else predictions: what two loads of one model must agree in."""
        probabilities = self.probabilities(frame)
        return self.predict(frame) if probabilities is None else probabilities


def classes(pipeline: Any) -> list | None:
    """The labels of a fitted classifier in the order of its probabilities; None of a regressor, whatever it has."""
    found = getattr(pipeline, "classes_", None)
    return None if found is None or is_regressor(pipeline) else list(found)


def same(answers: list | None, recorded: list | None) -> bool:
    """Whether two lists of answers are the same, but for what rounding does."""
    if answers is None or recorded is None:
        return answers == recorded
    try:
        return bool(np.allclose(answers, recorded, rtol=CLOSE, atol=CLOSE))
    except (TypeError, ValueError):  # labels that are text, or another number of rows
        return answers == recorded


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` as a model was fitted on it, as far as encoders can tell: text as text, no None; times as times."""
    types = pd.api.types
    words = [
        n
        for n in frame.columns
        if not (types.is_numeric_dtype(frame[n]) or types.is_datetime64_any_dtype(frame[n]))
    ]
    changed = {n: frame[n].astype(object).where(frame[n].notna(), np.nan) for n in words}
    return frame.assign(**changed) if words else frame


def check(
    folder: str | Path, trusted: Collection[str] = (), expected: str | None = None
) -> tuple[bytes, str]:
    """Refuse the model in `folder` unless it may be loaded; returns what its file holds, and the digest of all files.

    Args:
        trusted: full names of types that somebody vouched for by name, beside TYPES.
        expected: the digest that its files must have.

    Raises:
        WorkbookError: one line that says what is wrong with it.
    """
    folder = Path(folder)
    files = manifest.of_folder(folder)
    if expected and _of(files) != expected:
        raise WorkbookError(f"{folder}: its files are not those that were registered: not loaded.")
    flavors = _flavors(folder)
    own = flavors.get("sklearn", {})
    if flavors.get("python_function", {}).get("loader_module") != LOADER or not own:
        raise WorkbookError(
            f"{folder}: only models of the flavor {LOADER} are loaded; save it by models.log."
        )
    if own.get("serialization_format") != "skops":
        raise WorkbookError(
            f"{folder}: it is saved as {own.get('serialization_format') or 'a pickle'}, and loading that runs its "
            "code; train it again, so that it is saved by skops."
        )
    if own.get("code") or flavors["python_function"].get("code"):
        raise WorkbookError(f"{folder}: it brings code of its own: not loaded.")
    file = (folder / str(own.get("pickled_model"))).resolve()
    if folder.resolve() not in file.parents or not file.is_file():
        raise WorkbookError(f"{folder}: its file {own.get('pickled_model')} is not there.")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != files.get(str(file.relative_to(folder.resolve()))):
        raise WorkbookError(f"{folder}: its files are being changed: not loaded.")
    _check_types(file, content, trusted)
    return content, _of(files)


def _flavors(folder: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load((folder / "MLmodel").read_text("utf-8"))["flavors"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise WorkbookError(f"{folder}: there is no MLflow model in it ({error}).") from error


def strange(types: Iterable[str], trusted: Collection[str] = ()) -> set[str]:
    """Those of the full names `types` that neither we know nor somebody vouched for (`trusted`)."""
    return set(types) - TYPES - set(trusted)


def _check_types(file: Path, content: bytes, trusted: Collection[str]) -> None:
    try:
        types = set(skops.get_untrusted_types(data=content))
    except (
        Exception
    ) as error:  # pylint: disable=broad-exception-caught  # of a damaged file: many kinds
        raise WorkbookError(f"{file} is no model that skops can read ({error}).") from error
    if strangers := sorted(strange(types, trusted)):
        if "scikit-learn" in other_packages(file.parent):  # whose types it may only call otherwise
            raise OtherPackages(_way(file.parent, f"it holds {', '.join(strangers)}"))
        raise WorkbookError(
            f"{file}: it holds types that nobody vouched for: {', '.join(strangers)}; if you trust "
            f"their package, say so: --trust {' --trust '.join(strangers)}."
        )


def load(folder: str | Path, trusted: Collection[str] = (), expected: str | None = None) -> Loaded:
    """The model in `folder`, once it is checked (see `check`), as a Loaded."""
    content, sha256 = check(folder, trusted, expected)
    paths.reach_root()
    other = other_packages(folder)
    try:
        with warnings.catch_warnings():
            if other:  # whether it may be used here is looked at below
                warnings.simplefilter("ignore", InconsistentVersionWarning)
            pipeline = skops.loads(content, trusted=sorted({*TYPES, *trusted}))
    except Exception as error:  # pylint: disable=W0718  # of other packages: many kinds
        reason = first_line(error, named=True).rstrip(".")
        if other:
            raise OtherPackages(_way(folder, reason)) from error
        raise WorkbookError(
            f"{folder}: it does not load ({reason}); was it saved by another version?"
        ) from error
    meta = Model.load(str(folder))
    columns = meta.signature and meta.signature.inputs
    if not isinstance(pipeline, Pipeline) or not columns or not columns.has_input_names():
        raise WorkbookError(
            f"{folder}: only a scikit-learn Pipeline with a signature of named columns is used; "
            "save it by models.log."
        )
    loaded = Loaded(pipeline, meta, Path(folder), tuple(trusted), sha256)
    if other:
        _check_answers(loaded)
    return loaded


def pins(folder: str | Path) -> list[str]:
    """The packages that the model in `folder` was saved with, as it pins them ("name==version")."""
    file = Path(folder, "requirements.txt")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return [line for line in (each.partition("#")[0].strip() for each in lines) if line]


def other_packages(folder: str | Path) -> dict[str, tuple[str, str]]:
    """{package: (its version, the one here)} of those that the model in `folder` was saved with and that differ."""
    pinned = dict(line.split("==", 1) for line in pins(folder) if "==" in line)
    both_by_name = {name: (version, version_of(name)) for name, version in pinned.items()}
    return {n: both for n, both in both_by_name.items() if both[0] != both[1] and n not in ALIKE}


def in_words(other: Mapping[str, tuple[str, str]]) -> str:
    """What `other_packages` found, in words."""
    saved, here = (", ".join(f"{n} {both[i]}" for n, both in other.items()) for i in (0, 1))
    return f"it was saved with {saved}, and here is {here}"


def _way(folder: str | Path, reason: str) -> str:
    """In words, what to do where the packages here do not do for the model in `folder`, and the `reason`."""
    other = other_packages(folder)
    own = " ".join(f"{name}=={version}" for name, (version, _) in other.items())
    return (
        f"{folder}: {in_words(other)}, which does not do ({reason}): use it with its own "
        f"(pip install {own}), or train it again here."
    )


def version_of(package: str) -> str:
    """The version of `package` here, as its pin would name it, or that it is not installed.

    Without what follows a +, as in 2.13.0+cpu: that tells apart builds of one version, which no registry keeps.
    """
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "not installed"


def _check_answers(loaded: Loaded) -> None:
    """Refuse a model that does not answer its example with the packages here as it did with its own."""
    if loaded.example is None or loaded.recorded is None:
        return
    try:
        agrees = same(loaded.answers(loaded.example).tolist(), loaded.recorded)
        reason = "it answers otherwise than when it was saved"
    except Exception as error:  # pylint: disable=W0718  # many kinds
        agrees, reason = False, first_line(error, named=True)
    if not agrees:
        raise OtherPackages(_way(loaded.folder, reason))
