"""Links between the processes of an environment, and the proxies on them.

`proxy.py` is the harness's side of the RESP-aware proxy; everything else here but that runs in the proxy's own process,
under ``python -I -S``: `proxy_main` takes orders, a `link` listens, a `connection` is two sockets (`loop`), two
directions (`way`, with the `toxics` on it) and what is said in them (`resp`, `units`), each looked at by a `flow`
(`asking`, `answering`) as the `rules` say.
"""
