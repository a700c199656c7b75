"""cvgeo: find where a street-level picture was taken by matching it to geo-tagged aerial images."""

__version__ = "0.1.0"
