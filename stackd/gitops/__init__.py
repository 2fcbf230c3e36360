"""From a directory or a git repository to proposals: read a source as a whole, decide what it asks for, hand it on."""
