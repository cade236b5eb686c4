"""Scripts that write tests/data/nir with the frameworks' own exporters."""
