"""The workbook's helpers: what the notebooks import, and (in `running`) what executes them."""
