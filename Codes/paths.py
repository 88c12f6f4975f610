"""Where things are: every path of the workbook, as constants. Nothing is created here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
RESOURCES = ROOT / "Resources"
PROBLEMS = RESOURCES / "problems"
DATA = RESOURCES / "data"

# Everything below is generated: git-ignored, and gone after `make clean`.
DATABASE = ROOT / "mlflow.db"
ARTIFACTS = ROOT / "mlruns"
EXECUTED = ROOT / "executed"
