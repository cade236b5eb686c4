"""The gRPC edge: one file a service, and the one table from errors to status codes."""
