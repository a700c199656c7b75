"""Where data sets are made from: aerial rasters and geotagged pictures."""
