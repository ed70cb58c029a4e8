"""The files in `bad/` and `good/` are read by these tests; nobody is to run them."""

from __future__ import annotations

collect_ignore_glob = ["bad/*", "good/*"]
