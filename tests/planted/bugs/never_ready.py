"""A worker that hangs while it starts."""

import time

time.sleep(600)
