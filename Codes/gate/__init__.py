"""What a model must show before production, on the test rows, and how often such a gate errs.

Front doors: checks, report, error_rates. Decides; moves nothing."""
