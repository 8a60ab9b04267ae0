"""A package here is a family."""
