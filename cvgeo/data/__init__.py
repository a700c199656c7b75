"""Data sets in one schema: readers, imagery sources, transforms and the procedural world."""
