"""A session for plans that are run by hand."""

from planted.conftest import carry_out, session

__all__ = ["carry_out", "session"]
