"""What drives a model: steps, saves, validation, translation. Of models/*.py, only the base model imports it."""
