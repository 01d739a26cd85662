"""A run: its settings, its loop, and what it leaves in its workdir."""
