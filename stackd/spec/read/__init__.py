"""From the tree to the document: reads the keys of the stack-file language, typed, with every wrong one reported."""
