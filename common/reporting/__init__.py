"""What runs leave, and what is made of it: reads run folders, never models or data."""
