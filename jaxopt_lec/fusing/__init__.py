"""One loop over memory for a whole step, on CPUs: see `fuse`."""
