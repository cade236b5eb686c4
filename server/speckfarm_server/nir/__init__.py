"""NIR files: from untrusted HDF5 to the nodes of a chain, with every reason why not."""
