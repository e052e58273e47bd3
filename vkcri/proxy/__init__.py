"""kube-proxy: Services and EndpointSlices from the queue into one nftables table a family.

model   what Services and EndpointSlices mean: a service port and where its traffic goes. Pure
rules   that as nft text, whole or as the difference to what stands. Pure
apply   the only user of outside programs: nft, conntrack, modprobe; and the sysctls
main    the program: waits for both topics, then keeps the kernel at what they say
"""
