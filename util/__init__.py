"""Helpers that import nothing of models, data or options, but for the commands `python -m util...`."""
