"""What several test modules share: tiny models, sweeps, tables, trainings."""
