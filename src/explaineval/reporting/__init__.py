"""Tables, views of examples and data frames, made from run directories alone."""
