"""Runs the cells of a plan: schedules them, starts workers, records how each ended."""
