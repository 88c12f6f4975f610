"""Which run to take: who is compared, the verdict by a stated rule, in words and as the one table of runs.

Front doors: standings, leaderboard, verdict, words, contestants, naming, saved_view."""
