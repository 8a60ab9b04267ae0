"""A module here is a peer of the Haar family: its ARMS take part."""
