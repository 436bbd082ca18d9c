"""Numbers with their uncertainty: tables, claims, evaluations of runs, and what the papers published."""
