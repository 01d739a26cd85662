"""Why a place differs: mistakes are made with PyTorch on the same input until one gives Flax's numbers."""
