"""Models in memory: built by name, rehearsed on a few rows, asked for predictions and probabilities, measured.

Front doors: models, training (of networks), rehearsal, answers, evaluation."""
