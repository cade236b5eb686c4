"""NIR files: from untrusted HDF5 to the layers of a network, with every reason why not."""
