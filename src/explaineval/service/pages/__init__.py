"""The service's web pages: made on the server, with a little JavaScript that they can do without."""
