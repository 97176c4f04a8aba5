"""What the exercise scripts share."""
