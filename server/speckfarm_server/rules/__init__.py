"""Rules: what a network, a core, a link, the camera layer and vendor keys must keep."""
