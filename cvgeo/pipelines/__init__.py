"""One function a command: what is read, computed, written, in order."""
