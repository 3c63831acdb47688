"""What a machine, its boards and its compilers lack, and how to mend it."""
