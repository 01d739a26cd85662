"""The checks, a file for each group of levels. Each takes a `Case` and returns `parity.results.Check`s."""
