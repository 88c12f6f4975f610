"""A model that is in use, watched window by window: has its input moved, has its answer, does it do harm?

Front doors: monitor, kept_reference (what a version is held against), record (its run),
verdicts (all that, on a page), backtest (history replayed), quality (how often it errs).
"""
