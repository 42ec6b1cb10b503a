"""The network and the files it becomes: LiteRT, bundles, C sources."""
