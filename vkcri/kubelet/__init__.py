"""log-server: the kubelet's HTTPS API of this node, and a plain-HTTP log API for people.

main      the program: sockets, certificates, topics, end       app      the kubelet API: who may, errors
state     its routes about the node                             containers   its routes about pods and containers
parts     what routes work with                                 health, configz, systemlogs   one route each
auth      who asks, and may they                                tls      serving pair and client CA, swapped live
serving   the certificate that the cluster signs
pods      pods and their status, from the queue                 locate   which file holds a container's log
logs      CRI log files: tail, since, limits                    follow   a log that grows, across rotation
options   a log request's query, as Kubernetes decodes it       streams  exec, attach, port-forward
use       Summary and container metrics, from the provider      resource /metrics/resource made of a Summary
metrics   own metrics, joined with the other processes'         logapi   the log API for people
webpage   the node's page and what it asks                      programs supervisord's programs, restarted from it

It holds no credentials for the API server and does not subscribe to `objects`.
"""
