"""A module here is a peer of the LoRA family: its ARMS take part."""
