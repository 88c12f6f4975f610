"""The `workbook` command: a thin face over all other rooms.

Front door: cli."""
