"""`make bench`: how fast the list is at 1k to 1M images, beside two limits, in one run."""
