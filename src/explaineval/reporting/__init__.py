"""Tables, views of single examples and data frames, made from run directories alone."""
