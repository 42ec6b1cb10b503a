"""A fleet of virtual nodes in one process: the real protocol and the real updater, on memory instead of a device.

    broker -> sockets -> line -> node -> updater (the real one) -> files in memory, work by a cost model

One thread, one loop; only connecting, and the first look at each state of metadata and each bundle, happen on others.
"""
