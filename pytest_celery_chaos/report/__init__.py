"""Readers of a stored run: terminal, JSON."""
