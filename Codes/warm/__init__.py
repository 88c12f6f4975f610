"""Kernels in a fraction of a second: a template process that has imported what notebooks import forks them.

Front doors: provisioner, preload, channel, templates, command_client. What makes a fork a fresh start
stays inside.
"""
