"""What the tests and samples share: real commands on small notebooks, runs whose truth is known.

Front doors: testbed, known_runs, samples, browser, cases (which cases of a test are left to `make soak`).
"""
