"""A model trained again on the rows up to a day, by the notebook that trained it, and on its way to production.

Front door: retrain.
"""
