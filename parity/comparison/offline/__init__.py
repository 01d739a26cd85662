"""A comparison in three steps, for frameworks that don't install together: a folder goes between them."""
