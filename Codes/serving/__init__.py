"""A registered model behind MLflow's scoring protocol: requests read strictly, versions exchanged while it runs.

Front doors: server, client, app, payload, pool, capture, following (decides that a new version is good), fixed.
"""
