"""Results on a disk or in an object store: written once, shared by machines, made by one process at a time."""
