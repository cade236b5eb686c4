"""The twin: a Speck simulated event by event, in exact integers."""
