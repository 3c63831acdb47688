"""Devices elsewhere: what is to be measured travels there in a folder."""
