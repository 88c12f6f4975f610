"""One notebook over many points: the space, the search, the trials under one parent run, the report.

Front doors: sweep, plan, space, search, sweep_runs, sweep_report, progress.
`sweep` skips a point that is known.
"""
