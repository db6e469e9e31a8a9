"""Pipeline stages, one module each: `python -m pipelines.STAGE`."""
