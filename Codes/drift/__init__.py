"""One window of rows against the rows of training: has the input moved, has the answer, does the model do harm?

Statistics on tables: nothing here writes a run. Front doors: judge (the verdict on a window), asked (the
policy), reference (what is kept of training's rows), watched (the rows of windows), windows, harm, calibration, rule,
effects, levels.
"""
