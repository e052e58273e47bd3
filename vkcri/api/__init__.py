"""Facts about API objects, shared by every process: pure functions over raw dicts, no I/O, no clock."""
