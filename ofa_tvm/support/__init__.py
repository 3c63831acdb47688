"""What everything may use: errors, files that survive a kill, the terminal, commands, signals, the ledger."""
