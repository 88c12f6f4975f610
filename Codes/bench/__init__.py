"""What things cost, measured: `make bench`.

Front door: bench. Each other module is a section of it, or what sections share."""
