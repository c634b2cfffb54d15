"""What every command needs of the machine: errors in one line, the terminal, ranks, signals, a pool of processes."""
