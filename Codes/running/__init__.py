"""Notebooks executed as MLflow runs: the papermill engine, its limits and endings, what is kept of a run.

Front doors: runner, engine, execution, recording, interruption, project."""
