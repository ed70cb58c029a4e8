"""Links between the processes of an environment, and the proxies on them."""
