"""Realistic mistakes that `verify` must find, and the program that tries them."""
