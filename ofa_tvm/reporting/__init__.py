"""One self-contained HTML page of a search."""
