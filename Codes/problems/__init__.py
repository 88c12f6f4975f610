"""What is predicted from which table: the problem's file, its rows for training, validation and test, its own metric.

Front doors: problem, data, rows, overview, own_metric, late_labels."""
