"""The report again, from run folders: statistics, verdicts, claims, figures, and the page that holds them."""
