"""MLflow runs: one line opens one, what identifies it, runs that a notebook asks for, and which are still alive.

Front doors: tracking, identity, liveness (a killed run is closed here), nested_runs, kernel_values, session, ui_links.
"""
