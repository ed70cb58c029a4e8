"""What happened: events, their log, and the verdict over them. Imports nothing else of this package but errors."""
