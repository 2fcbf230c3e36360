"""Types that every layer shares. No clock, no logging, no I/O."""
