"""Runs, files, seeds, devices, fingerprints and errors, for all other rooms."""
