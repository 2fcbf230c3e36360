"""Text to StackSpec: pure, with every error found in one pass and a source map that keeps file, line and column."""
