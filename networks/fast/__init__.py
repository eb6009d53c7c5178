"""The same numbers, sooner: what `models.engine.hardware` does to networks."""
