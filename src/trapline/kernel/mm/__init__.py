"""Memory: address spaces, areas, the page cache, and the only code that touches user memory."""
