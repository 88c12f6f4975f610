"""PyTorch: a network, from its first epoch to production, by the commands of any other model.

    python Codes/Check_torch.py

Where PyTorch is not installed it says so in a line, and is done.

Expected output:

    learned     4 epochs, each with its loss; on its own rows the last is below the first
    saved       as arrays in model.skops, without a file of the framework's
    pins        torch, beside those of every model
    gate        breast_cancer version 1: passed
    REST        ['benign', 'benign', 'benign'] by version 1
    batch       569 of 569 rows scored
    altered     refused: its files are not those that were registered
"""

from Codes.testing import network_sample

if __name__ == "__main__":
    network_sample.check("torch", "PyTorch", __doc__)
