"""Results as tables (pandas), and methods compared with one another."""
