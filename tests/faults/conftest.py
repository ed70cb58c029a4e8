"""Scenarios that are run on real servers."""

from live import live_session, runs

__all__ = ["live_session", "runs"]
