"""TVM's names, headers, libraries and version, taken from it in one place."""
