"""The embedded API server: one guest's Kubernetes API over SQLite, for a guest without a cluster.

main        the program: store, bootstrap, controllers, HTTPS
storage     the SQLite store and its watches; watch: the stream of events as HTTP sees it
rest        HTTP: every verb on every resource; negotiate, protobuf, table, openapi, discovery, patch, strategic, proxy
strategy    what a create, update or delete means for each kind: defaults, admission, validation
authn, authz, tokens, bootstrap       who a caller is and may do; the CA, kubeconfigs and first objects
controllers/                          what Kubernetes' controllers and scheduler do for one node
"""
