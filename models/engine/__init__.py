"""What drives a model: steps, saves, validation, translation. No plugin imports it."""
