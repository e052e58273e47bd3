"""The only user of the `kubernetes` package: configuration and connection from there, requests and watches our own.

failures     an answer's status as one of vkcri.errors     kubeconfig   who we are, and the connection that follows
client       requests with raw dicts, and watches as lines of bytes     reflector   a list kept up to date by a watch
"""
