"""Redis and Valkey servers; the only place that knows the key layout of kombu."""
