"""Models on disk: what may be loaded, and a process of its own for a model whose packages are not these.

Front doors: trust (digests and types, held before anything is loaded), reproduction, remote, skops_alone.
"""
