"""What a shell may complete: notebooks, problems, models, stages and runs.

What the store is asked for is asked in a fork of the template alone, where MLflow is imported already: nobody waits
seconds for a Tab. The first one starts a template for the next.
"""

import sys
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from Codes.ground.paths import NOTEBOOKS, PROBLEMS

MOST = 50  # runs, the newest
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _from(candidates: Callable[[], Iterable[tuple[str, str]]], store: bool = False) -> Completion:
    """A completion from (value, help); from the `store` only where that is quick."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str):
        if store and "mlflow" not in sys.modules:
            return []
        fitting = [each for each in candidates() if each[0].startswith(incomplete)]
        return [CompletionItem(value, help=about or None) for value, about in fitting]

    return complete


def _notebooks() -> Iterable[tuple[str, str]]:
    return [(path.stem, "") for path in sorted(NOTEBOOKS.glob("*.ipynb"))]


def _problems() -> Iterable[tuple[str, str]]:
    return [(path.stem, "") for path in sorted(PROBLEMS.glob("*.yaml"))]


def _models() -> Iterable[tuple[str, str]]:
    from Codes.model_registry import registry

    return [(name, "") for name in registry.names()]


def _versions() -> Iterable[tuple[str, str]]:
    from Codes.model_registry import registry

    for name in registry.names():
        yield from ((f"{name}@{a}", f"version {n}") for a, n in registry.aliases(name).items())
        yield from ((f"{name}/{each.number}", "") for each in registry.versions(name))


def _runs() -> Iterable[tuple[str, str]]:
    from mlflow import MlflowClient

    from Codes.stores import store

    store.open_store()
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    finished = client.search_runs(experiments, "attributes.status = 'FINISHED'", max_results=MOST)
    return [(run.info.run_id, run.info.run_name or "") for run in finished]


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str):
    """Files, which the shell itself completes."""
    return [CompletionItem(incomplete, type="file")]


notebooks, problems = _from(_notebooks), _from(_problems)
models, versions, runs = _from(_models, True), _from(_versions, True), _from(_runs, True)
stages = _from(lambda: [("staging", ""), ("production", "through the gate")])


def notebook_or_file(context: click.Context, parameter: click.Parameter, incomplete: str):
    """The notebooks that ship; else files."""
    found = notebooks(context, parameter, incomplete)
    return found or files(context, parameter, incomplete)
