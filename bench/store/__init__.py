"""The results folder: its layout, its records, atomic writes and locks."""
