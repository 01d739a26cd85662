"""What both engines must agree on, free of any framework: NumPy and plain libraries only."""
