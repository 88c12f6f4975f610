"""What every room stands on: where things are, a user's mistake in one line, files that are whole or not at all.

Front doors: paths, errors, files, manifest, plain_yaml, labels, pace, dotted, variables, interrupts, dask_cluster.
"""
