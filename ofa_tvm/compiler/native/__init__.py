"""C sources that generated libraries and measurements are made of."""
