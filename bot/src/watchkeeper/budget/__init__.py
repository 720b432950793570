"""One budget of request weight for everybody on this host's address."""
