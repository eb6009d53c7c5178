"""Read every image of a data root, report problems, suggest settings: python -m data.check DATAROOT."""
