"""The operating system: the keeper that spawns and cleans up, free ports, and the only polling loop."""
