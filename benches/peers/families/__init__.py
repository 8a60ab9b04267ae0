"""A module here is a family."""
