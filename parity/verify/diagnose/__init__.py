"""The likely cause of a failed check: known mistakes, made with PyTorch, that give the wrong numbers."""
