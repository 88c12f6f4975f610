"""Tables of any size scored by a registered model, part by part, so that a killed command goes on where it was.

Front door: job."""
