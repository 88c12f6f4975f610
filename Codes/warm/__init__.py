"""Kernels and commands in a fraction of a second: a template process that has imported what they import forks them.

Front doors: provisioner, preload, templates. What makes a fork a fresh start stays inside; who asks for one: forks.
"""
