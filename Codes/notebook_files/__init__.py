"""Notebooks as files: read whoever wrote them, their parameters cell as an interface, what of them is code.

Front doors: notebook_file, parameters, cells, languages, notebook_diff. Nothing here executes a notebook.
"""
