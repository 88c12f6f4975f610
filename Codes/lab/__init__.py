"""A person's side of the runs, in JupyterLab: a run opened again, `%workbook` in cells, the MLflow UI as a tile.

Front doors: opening, repeating.
"""
