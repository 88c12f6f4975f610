"""Tables as people have them: read from disk, each cell's meaning, each column looked at, the data contract.

Front doors: reader, cell_values, contract, column_checks. Knows files and columns, not problems."""
