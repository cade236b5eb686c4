"""The vendor's configuration JSON: read and written, with the keys of each chip."""
