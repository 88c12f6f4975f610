"""Where things are: every path of the workbook, as constants. Nothing is created here."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
RESOURCES = ROOT / "Resources"
PROBLEMS = RESOURCES / "problems"
DATA = RESOURCES / "data"

# Everything below is generated: git-ignored, and gone after `make clean`.
DATABASE = ROOT / "mlflow.db"
ARTIFACTS = ROOT / "mlruns"
EXECUTED = ROOT / "executed"


def reach_root() -> None:
    """Let modules of your own at the root be imported, after all that is installed, from wherever a command runs."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
