"""Of each IPython of this environment, kernels too: `%workbook`. A user's own extensions come beside it."""

get_config().InteractiveShellApp.extensions.append("Codes.lab.magics")
