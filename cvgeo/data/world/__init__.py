"""The procedural world: one continuous scene, seen from above and from its streets.

`plan` lays out streets, blocks, buildings and trees from a seed; `raster` turns a window of it into height and ground
layers; `aerial` and `ground` render both views from those layers, so that their geometry agrees exactly; `World` ties
them together. Every knob of difficulty is in `knobs`.
"""

from cvgeo.data.world.knobs import PRESETS, WorldKnobs
from cvgeo.data.world.world import World

__all__ = ["PRESETS", "World", "WorldKnobs"]
