"""Runs of scenarios with links."""

from live import live_session, runs

__all__ = ["live_session", "runs"]
