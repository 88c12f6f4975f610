"""Who asks a warm template for a fork: where the two meet, a command, a module of ours in a process of its own.

Front doors: channel, command_client, apart, fork. Standard library only, since commands answer at once by it.
"""
