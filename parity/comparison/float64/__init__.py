"""Any JAX function in float64, whatever dtypes its modules ask for."""
