"""What `benchmarks.peers` runs in the peers' own environments."""
