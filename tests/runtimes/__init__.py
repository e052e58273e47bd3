"""Other containerds to test against than the guest's own: `make test RUNTIME=2`.

apt.py     packages of another Debian release, beside the guest's own apt
cached.py  a runtime unpacked into the cache folder, and which one serves
"""
