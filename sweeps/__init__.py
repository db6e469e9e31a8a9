"""Studies that map accuracy against speed."""
