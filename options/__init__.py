"""The command line: base options, then those of the model and the dataset it names."""
