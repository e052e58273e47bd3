"""log-server: the kubelet's HTTPS API of this node, and a plain-HTTP log API for people.

main      the program: sockets, certificates, topics, end       app      the kubelet API's routes
auth      who asks, and may they                                tls      serving pair and client CA, swapped live
pods      pods and their status, from the queue                 locate   which file holds a container's log
logs      CRI log files: tail, since, limits                    follow   a log that grows, across rotation
streams   exec, attach, port-forward                            metrics  own metrics, joined with the other processes'
logapi    the log API for people

It holds no credentials for the API server and does not subscribe to `objects`.
"""
