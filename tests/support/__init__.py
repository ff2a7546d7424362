"""What tests of several rooms share: tiny runs, planted sweeps, logs in each raw format, processes.

No fixtures: scripts and spawned workers import it too.
"""
