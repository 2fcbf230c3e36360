"""Which addresses and ports networks, services and tasks get (semantics 15). Decided and stored here; nodes carry it out."""
