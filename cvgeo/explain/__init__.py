"""Pictures that explain a result to a person: arrays in, arrays out."""
