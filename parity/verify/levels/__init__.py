"""The levels of checks, a file each, and registry.py with the table of them."""
