"""A model that a notebook would refuse in its kernel is refused before one starts."""

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from Codes.ground.paths import ROOT

MODEL = {"problem", "model", "hyperparameters"}  # of a notebook that builds its model from them


def check_models(path: Path, several: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a model with hyperparameters in `several` (dicts) that the notebook at `path` would refuse in its kernel.

    It imports scikit-learn, a second or two: so only for what needs it, and never a module of the user's own.
    """
    from Codes.notebook_files import parameters
    from Codes.problems import problem as problems_
    from Codes.running import runner

    defaults: dict[str, Any] = {p.name: p.default for p in runner.declared(path)}
    if not builds_model(path, defaults):
        return
    known = short_models()
    for chosen in ({**defaults, **values} for values in several):
        model, given = chosen["model"], chosen["hyperparameters"]
        is_due = bool(given) or not known.get(str(model), "").startswith("sklearn.")
        if is_due and not parameters.references(given) and is_installed(model):
            from Codes.modeling import models

            models.check(problems_.load(chosen["problem"]).task, model, given)


def builds_model(path: Path, names: Iterable[str]) -> bool:
    """Whether the notebook at `path`, whose parameters have these `names`, builds a model from them."""
    return MODEL <= set(names) and "models.build(" in Path(path).read_text("utf-8")


def short_models() -> dict[str, str]:
    """{short name: an estimator of it} of Codes/modeling/models.py, read without importing it, which takes seconds."""
    tree = ast.parse((ROOT / "Codes" / "modeling" / "models.py").read_text("utf-8"))
    (table,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and "SHORT" in ast.unparse(node.targets[0])
    ]
    assert isinstance(table, ast.Dict)
    return {name: next(iter(each.values()))[0] for name, each in ast.literal_eval(table).items()}


def is_installed(model: str) -> bool:
    """Whether `model` is a short name, or the dotted path of something in an installed package."""
    package, dot, _ = model.partition(".")
    spec = importlib.util.find_spec(package) if dot and package.isidentifier() else None
    return not dot or bool(spec and spec.origin and "site-packages" in Path(spec.origin).parts)
