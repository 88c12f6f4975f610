"""What determines a run's result, as one digest, so that no run need be made twice.

Front doors: fingerprint, influences."""
