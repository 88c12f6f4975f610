"""Imported by the server that runners are forked from: what the first notebook and its page cost is paid once."""

import nbformat

from Codes.running import recording

CELLS = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("import this  # one")]
NOTEBOOK = nbformat.v4.new_notebook(cells=CELLS)
nbformat.validate(NOTEBOOK)
recording.as_page(NOTEBOOK)
