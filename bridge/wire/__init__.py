"""What the node says to pods over sockets: HTTP, TCP and gRPC health, for probes and hooks alike.

`request`, `words`, `exchange`, `http1`, `http2` and `health` are without I/O: bytes in, bytes out. `connection` is one
socket with TLS where wanted, `loop` the one thread that runs them all, `client` what others call.
"""
