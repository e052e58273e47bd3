"""The embedded API server, for a guest without a cluster: one node, one SQLite file, the kinds of resources.py."""
