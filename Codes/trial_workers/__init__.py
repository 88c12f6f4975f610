"""Processes that execute a sweep's trials, on this machine or as tasks of a Dask cluster.

Front doors: pool, worker."""
