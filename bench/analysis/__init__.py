"""What reading, analysing and reporting records costs."""
