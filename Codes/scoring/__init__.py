"""Tables of any size scored by a registered model, part by part, so that a killed command goes on where it was.

Front doors: job, typed_rows (rows as a model takes them), table_parts."""
