"""Runs, files, seeds, devices, fingerprints and errors: what everything stands on."""
