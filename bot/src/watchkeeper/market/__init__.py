"""Market data inside one bot: latest values only, over a Unix socket."""
