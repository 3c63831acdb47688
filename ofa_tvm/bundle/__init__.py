"""What is shipped: a folder with a library, its runner, and what is known of both."""
