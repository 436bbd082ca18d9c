"""Evaluation that never changes what it evaluates."""
