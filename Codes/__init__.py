"""The workbook's helpers, in rooms: each package holds one part of the flow, and its docstring says what.

A notebook imports words, not rooms: `from Codes import data, models, tracking`. They stay, whatever moves behind them.
"""

import importlib
from types import ModuleType

# word: the room that holds the module of this name
WORDS = {
    "client": "serving",
    "data": "problems",
    "demonstration": "model_registry",
    "leaderboard": "comparison",
    "loop": "retraining",
    "models": "modeling",
    "overview": "problems",
    "plots": "figures",
    "problem": "problems",
    "promotion": "model_registry",
    "registry": "model_registry",
    "rehearsal": "modeling",
    "standings": "comparison",
    "tracking": "runs",
    "training": "modeling",
    "validation": "judgement",
    "verdicts": "monitoring",
}


def __getattr__(word: str) -> ModuleType:
    """The module that `word` stands for, imported when it is asked for: a notebook loads what it names, no more."""
    if word not in WORDS:
        raise AttributeError(f"module 'Codes' has no attribute {word!r}")
    return importlib.import_module(f"Codes.{WORDS[word]}.{word}")
