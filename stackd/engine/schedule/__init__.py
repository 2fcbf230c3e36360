"""Which node takes which task. Pure functions over records handed in: no store, no clock."""
