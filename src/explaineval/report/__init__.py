"""What people look at: tables and data frames, made from metric rows and run directories alone."""
