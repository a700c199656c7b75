"""How good answers are: pure functions over ranks and positions."""
