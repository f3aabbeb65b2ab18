"""Tables, pictures, logs and model cards."""
