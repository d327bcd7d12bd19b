"""Arrays in, pictures and figures out; nothing here knows a model."""
