"""Quicker ways to the same answer, each proven equal to the model's before it is used.

Front doors: quick (no data frame), onnx_form (ONNX Runtime)."""
