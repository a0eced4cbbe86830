"""What the methods learn from and are scored on: tasks, a user's own files, instructions, the built-in world."""
