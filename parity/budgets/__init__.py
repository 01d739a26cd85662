"""How much two correct programs may differ."""
