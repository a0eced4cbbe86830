"""The built-in world: invented facts, and the tasks and instructions made of them."""
