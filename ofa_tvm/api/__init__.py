"""What a Python program calls; everything here is also an attribute of ``ofa_tvm``."""
