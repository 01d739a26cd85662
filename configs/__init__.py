"""Configurations: `get_config(variant)` in one file per model, every variant a small diff on the default."""
