"""One file per method: its equation (`scale_by_*`) and its optimizer."""
