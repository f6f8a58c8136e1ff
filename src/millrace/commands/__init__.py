"""What the commands of `millrace` do, one module each."""
