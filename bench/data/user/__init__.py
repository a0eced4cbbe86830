"""A user's own data sets: columns guessed from their names, and rows of every common shape as training rows."""
