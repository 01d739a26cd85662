"""Convolutions and batch norms in native code, for a CPU; see README.md in this folder."""
