"""RPC: definitions and codecs, client, handler protocols, and the public records that clients see."""
