"""From what a stack file says to what it means: the typed `StackSpec` that the rest of stackd works with."""
