#!/bin/bash
# Runs once when the container is made: afterwards everything is installed and the kernel is known.
set -euo pipefail
cd "$(dirname "$0")/.."
git config --global --add safe.directory "$PWD" # the folder may belong to the host's user
make install
.venv/bin/jupyter kernelspec list # python3 lives in .venv/share/jupyter
echo "ready: 'make run' runs the notebooks, 'make lab' opens JupyterLab, 'make ui' shows the runs"
