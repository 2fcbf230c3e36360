"""The managers' side: one writer loop decides, the dispatcher tells the nodes, control answers clients."""
