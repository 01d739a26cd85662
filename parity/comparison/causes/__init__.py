"""Why a place differs: known mistakes are made with PyTorch on the same input until one gives Flax's numbers."""
