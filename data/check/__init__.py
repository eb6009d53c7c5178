"""Read every image of a data root, tell what is wrong, and which settings fit: python -m data.check DATAROOT."""
