"""How good one model is: its score on redrawn rows, the baseline that it has to beat, the threshold that costs least.

Front doors: validation (a run's score), baseline, decision, paired (two models on the same rows), scored, resampling,
finding (a run's result in words).
"""
