"""Provider batches, at half the price: recorded on the disk, submitted, tracked, and their answers stored.

Import from the modules themselves: `journal`, which every run reads, loads no HTTP client then.
"""
