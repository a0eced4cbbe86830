"""Rows from files: JSON, JSONL, CSV, TSV and parquet, the values of a row, and what is said of rows that are bad."""
