"""One notebook over many points: the space, the search, the trials under one parent run, the report.

Front doors: sweep, plan, space, search, sweep_runs, sweep_report, progress. A point that is known is skipped by `sweep`.
"""
