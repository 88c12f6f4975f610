"""Environment variables by which the runner tells a notebook's processes of their run."""

OWNED = "WORKBOOK_RUN_ID"
# where that run is kept
STORE = "WORKBOOK_TRACKING_URI"
# in a kernel, whose own experiment MLflow's variable always names: the one for all runs, or an empty text
FOR_ALL = "WORKBOOK_EXPERIMENT_ID"
