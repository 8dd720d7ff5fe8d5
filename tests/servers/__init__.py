"""What the tests run against: a planted endpoint, the command line in child processes, a guard on sockets."""
