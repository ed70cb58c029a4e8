"""The format of a scenario file: model, reading with places, schema, and the plan made of it."""
