"""Several runs on one page: python -m util.compare RUN RUN."""
