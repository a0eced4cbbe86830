"""Base models: where they come from, how they are loaded, and what is asked of their insides."""
