"""Configuration: every default once (`schema`), presets as TOML, and how settings override each other (`load`)."""
