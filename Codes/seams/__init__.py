"""The private parts of other libraries, one module a library: a use is a function with why, what was seen, a way out.

Each has a test of its name in Test_seams.py, which fails where a new release has changed that part.
Front doors: mlflow_seam, papermill_seam, jupyter_seam, ipykernel_seam, sklearn_seam, uvicorn_seam, python_seam.
"""
