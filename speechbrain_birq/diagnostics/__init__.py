"""What the labels and the results are worth; measures, never trains."""
