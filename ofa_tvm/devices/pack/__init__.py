"""Devices elsewhere: work to be measured travels there in a folder."""
