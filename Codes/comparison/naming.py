"""What a run is called beside others: by what differs between them, and no more."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from Codes.comparison.contestants import ALL, Run
from Codes.ground.labels import number

NUMBER = 7  # characters of a run's id


def names(runs: Sequence[Run]) -> list[str]:
    """A name for each of `runs`, no two alike: the model, and of its settings those that differ; a trial's number."""
    varied = _varied(runs)
    shown = [_name(run, varied) for run in runs]
    for more in (_rows, _sweep, _number):
        kinds = _kinds(shown, [more(run) for run in runs])
        shown = [f"{n}{more(r)}" if len(kinds[n]) > 1 else n for n, r in zip(shown, runs)]
    return shown


def _kinds(shown: Iterable[str], told: Iterable[str]) -> dict[str, set[str]]:
    """{each name that is `shown`: what is `told` of its runs}."""
    kinds = defaultdict(set)
    for name, text in zip(shown, told):
        kinds[name].add(text)
    return kinds


def _varied(runs: Sequence[Run]) -> dict[str, Any]:
    """{what differs between `runs`: how it is called}."""
    settings = [flat(run.setting) for run in runs]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    varied = [k for k in keys if len(_values(runs, settings, k)) > 1]
    last = [key.rpartition(".")[2] for key in varied]
    return {k: short if last.count(short) == 1 else k for k, short in zip(varied, last)} | {
        "": not _tells(runs)
    }


def _tells(runs: Sequence[Run]) -> bool:
    """Whether the model alone tells of which notebook each of `runs` is."""
    notebooks = defaultdict(set)
    for run in runs:
        notebooks[_model(run)].add(run.notebook)
    return all(len(those) == 1 for model, those in notebooks.items() if model)


def _model(run: Run) -> str:
    return str(run.setting.get("model", "")).rpartition(".")[2]


def _values(runs: Sequence[Run], settings: Sequence[dict[str, Any]], key: str) -> set[str]:
    """The values of `key` in the `settings` of `runs`; a notebook that knows no such key has none."""
    having = {run.notebook for run, setting in zip(runs, settings) if key in setting}
    return {repr(s.get(key)) for run, s in zip(runs, settings) if run.notebook in having}


def flat(setting: dict[str, Any], before: str = "") -> dict[str, Any]:
    """`setting` with what lies in dicts on its own, by a dotted name."""
    found = {}
    for name, value in setting.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _name(run: Run, varied: Mapping[str, Any]) -> str:
    setting, model = flat(run.setting), _model(run)
    setting.pop("model", None)
    parts = [run.notebook] if varied[""] or not model else []
    parts += [model] if model else []
    if run.trial:
        return " ".join([*parts, f"trial {run.trial}"])
    told = [f"{varied[k]}={_value(setting[k])}" for k in setting if k in varied]
    return ", ".join([" ".join(parts) or "run", *told])


def _value(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) and " " in value else number(value)


def _rows(run: Run) -> str:
    return f", {'all' if run.rows == ALL else f'{run.rows:,.0f}'} rows"


def _sweep(run: Run) -> str:
    return f" of {run.sweep[:NUMBER]}" if run.trial else ""


def _number(run: Run) -> str:
    return f" ({run.run_id[:NUMBER]})"
