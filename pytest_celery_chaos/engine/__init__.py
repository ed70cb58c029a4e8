"""Runs a plan against an environment and writes its history."""
