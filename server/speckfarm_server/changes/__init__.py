"""What to change about an error, tried before it is given."""
