"""Mistakes in single operations of a piece: each file has those of one kind of operation."""
